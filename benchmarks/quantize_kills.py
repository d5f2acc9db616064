"""Kills quantization, fills its disk and breaks its reads, and counts broken promises.

    python benchmarks/quantize_kills.py                           200 kills and every fault, some minutes
    python benchmarks/quantize_kills.py --kills 20 --every 40     a quick one

The real command makes a GGUF file and a folder of compressed-tensors of a random model. It is killed (SIGKILL) at
random instants of its work, often several times in a row; system calls fail under `strace` (no space, or an error of
the device, from every n-th write, sync, read or rename on); and on a small file system another writer takes the space
while it works (root only). Each time nothing may have the final name but the whole output, a fault must end with code 4
and the line that goes on, and the same command must end with the very bytes of an undisturbed one. The exit code is 0
if no promise was broken.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# In place of this folder, as the name `quant` isn't a package beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from quant.random_llama import write_llama  # type: ignore[import-not-found] # noqa: E402
from quant.test_kill import content_of, finish, kill_after, remove, start  # type: ignore[import-not-found] # noqa: E402

KINDS = (("out.gguf", "q4_k"), ("out", "w4a16-g32"))
#: System calls that fail, how, and on which files.
WRITTEN, READ, ANY = "written", "read", "any"
FAULTS = (
    ("pwrite64", "ENOSPC", WRITTEN),
    ("pwrite64", "EIO", WRITTEN),
    ("preadv", "EIO", READ),
    ("read", "EIO", READ),
    ("pread64", "EIO", WRITTEN),
    ("fsync", "EIO", WRITTEN),
    ("fsync", "ENOSPC", WRITTEN),
    ("ftruncate", "ENOSPC", WRITTEN),
    ("rename", "EIO", ANY),
)
#: What the command ends with when it can go on, or was refused before it began.
CAN_GO_ON, REFUSED = 4, 2
PATIENCE = 120.0
SHOWN = 10


class Bench:
    """A model, its outputs by an undisturbed command, and what was broken."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.source = folder, random.Random(seed)
        self.model: Path = write_llama(folder / "model", hidden=768, inner=2048, layers=4, shards=2)
        self.calm: dict[str, dict[str, bytes]] = {}
        self.lasts: dict[str, float] = {}
        self.broken: list[str] = []
        for name, kind in KINDS:
            calm = folder / f"calm-{name}"
            finish(*self.words(calm, kind))  # kernels are compiled now, if they weren't
            remove(calm)
            self.lasts[kind] = finish(*self.words(calm, kind))
            self.calm[kind] = content_of(calm)

    @property
    def read(self) -> list[Path]:
        return sorted(self.model.glob("*.safetensors"))

    def written(self, out: Path, kind: str) -> list[Path]:
        """What the command writes before the output has its name."""
        partial = out.with_name(f"{out.name}.partial")
        names = [name for name in self.calm[kind] if name]
        return [partial, out.with_name(f"{out.name}.partial.journal"), *(partial / name for name in names)]

    def words(self, out: Path, kind: str, threads: int = 1) -> list[str]:
        return [str(self.model), str(out), "--threads", str(threads), "--to", kind]

    def look(self, said: str, out: Path, kind: str) -> bool:
        """Whether the output is there; if so, it must be whole."""
        if not out.exists():
            return False
        if content_of(out) != self.calm[kind]:
            self.broken.append(f"{said}: the output isn't that of an undisturbed run")
        remove(out)
        return True

    def end(self, said: str, out: Path, kind: str) -> None:
        """Goes on to the end."""
        try:
            finish(*self.words(out, kind, 2))
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.broken.append(f"{said}: it can't be gone on with: {str(error)[-300:]}")
            self.clear(out)
            return
        if not self.look(said, out, kind):
            self.broken.append(f"{said}: there is no output")
        left = sorted(path.name for path in out.parent.glob(f"{out.name}*"))
        if left:
            self.broken.append(f"{said}: {', '.join(left)} is left")
            self.clear(out)

    def clear(self, out: Path) -> None:
        for path in out.parent.glob(f"{out.name}*"):
            remove(path)


def kills(bench: Bench, count: int) -> str:
    """Kills in rows of one to five."""
    tally: Counter[str] = Counter()
    for name, kind in KINDS:
        out, row = bench.folder / name, 0
        while tally[kind] < count // len(KINDS):
            instant = bench.source.uniform(0.0, bench.lasts[kind])
            said = f"{kind}, kill {tally[kind] + 1} after {instant:.3f} s"
            words = bench.words(out, kind, bench.source.choice((1, 2)))
            partial = out.with_name(f"{out.name}.partial")
            was_killed = kill_after(instant, *words) if tally[kind] % 2 else kill_at_work(partial, instant, words)
            tally[kind] += was_killed
            tally["in the middle"] += was_killed and partial.exists()
            row += 1
            if bench.look(said, out, kind):
                row = 0
            elif row >= bench.source.randint(1, 5):
                bench.end(said, out, kind)
                row = 0
        bench.end(f"{kind}, the end", out, kind)
    killed = sum(tally[kind] for _, kind in KINDS)
    return f"{killed} kills, {tally['in the middle']} of them with a partial output"


def kill_at_work(partial: Path, seconds: float, words: list[str]) -> bool:
    """Whether the command was killed so many seconds after its partial output was there, a quarter of a run at most."""
    process = start(*words)
    until = time.monotonic() + PATIENCE
    while process.poll() is None and not partial.exists() and time.monotonic() < until:
        time.sleep(0.0005)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds / 4)
    was_running = process.poll() is None
    process.kill()
    process.communicate()
    return was_running


def faults(bench: Bench, every: int) -> str:
    """Each kind of fault at every n-th call of its kind, and at all later ones, as on a disk that stays full."""
    if shutil.which("strace") is None:
        return "n/a: strace isn't installed"
    tried = 0
    for (name, kind), (call, error, where) in itertools.product(KINDS, FAULTS):
        out = bench.folder / name
        for number in itertools.count(1 + bench.source.randrange(every) if every > 1 else 1, every):
            said = f"{kind}, {error} at {call} {number}"
            files = {WRITTEN: bench.written(out, kind), READ: bench.read, ANY: []}[where]
            code, told = _with_fault(bench.words(out, kind), call, f"error={error}:when={number}+", files)
            if code == 0:  # there are no such calls any more
                if not bench.look(said, out, kind):
                    bench.broken.append(f"{said}: it ended well without an output")
                break
            tried += 1
            if code not in (CAN_GO_ON, REFUSED) or "Traceback" in told:
                bench.broken.append(f"{said}: it ended with {code}: {told[-300:]}")
            bench.look(said, out, kind)
            bench.end(said, out, kind)
    return f"{tried} faults of system calls"


def _with_fault(words: list[str], call: str, fault: str, files: list[Path]) -> tuple[int, str]:
    """The code and the words of a command one of whose system calls fails on these files, or on any."""
    paths = [word for file in files for word in ("-P", str(file))]
    line = ["strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    done = subprocess.run(
        [*line, sys.executable, "-m", "tokenmill", "quantize", *words, "-q"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A file system of so many bytes at `place`; False if this user may not make one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True) if os.geteuid() == 0 else None
    if done is None or done.returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disk(bench: Bench, count: int) -> str:
    """Another writer takes all space while the command works; with the space back, it ends as ever."""
    met = 0
    for name, kind in KINDS:
        whole = sum(map(len, bench.calm[kind].values()))
        with small_disk(bench.folder / f"disk-{kind}", 2 * whole) as is_there:
            if not is_there:
                return "n/a: a small file system needs root"
            out = bench.folder / f"disk-{kind}" / name
            for number in range(count):
                said = f"{kind}, full disk {number + 1}"
                code, told = _while_filling(bench, out, kind)
                if code == 0:
                    bench.look(said, out, kind)
                    continue
                met += 1
                if code != CAN_GO_ON or "the disk is full" not in told or "go on with: tokenmill quantize" not in told:
                    bench.broken.append(f"{said}: it ended with {code}: {told[-300:]}")
                bench.look(said, out, kind)
                bench.end(said, out, kind)
    return f"{met} of {len(KINDS) * count} runs met a full disk"


def _while_filling(bench: Bench, out: Path, kind: str) -> tuple[int, str]:
    """Runs the command; as soon as its partial output is there, a ballast takes the disk but for a random rest."""
    line = [sys.executable, "-m", "tokenmill", "quantize", *bench.words(out, kind), "-q"]
    ballast, partial = out.parent / "ballast", out.with_name(f"{out.name}.partial")
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not partial.exists():
        time.sleep(0.0005)
    free = shutil.disk_usage(out.parent).free
    with ballast.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, free - bench.source.randrange(1 << 20)))
        except OSError:
            _fill(file.fileno())
    _, told = process.communicate(timeout=PATIENCE)
    ballast.unlink()
    return process.returncode, told


def _fill(descriptor: int) -> None:
    """Takes what is left, page by page."""
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="random instants, half of them for each output")
    parser.add_argument("--every", type=int, default=10, help="strike at every n-th system call of a kind; 0 for none")
    parser.add_argument("--full", type=int, default=10, help="runs of each output on a disk that gets full")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantize-kills-") as folder:
        bench = Bench(Path(folder), chosen.seed)
        parts: dict[str, Callable[[], str]] = {
            "kill": lambda: kills(bench, chosen.kills),
            "faults": lambda: faults(bench, chosen.every) if chosen.every else "none",
            "full disk": lambda: full_disk(bench, chosen.full),
        }
        for name, play in parts.items():
            started, before = time.monotonic(), len(bench.broken)
            said = play()
            told = f"{len(bench.broken) - before} broken promises, {time.monotonic() - started:.0f} s"
            print(f"{name}: {said}; {told}", flush=True)
            for fault in bench.broken[before:][:SHOWN]:
                print(f"    {fault}", flush=True)
    print("FAILED" if bench.broken else "all promises kept")
    return 1 if bench.broken else 0


if __name__ == "__main__":
    sys.exit(main())
