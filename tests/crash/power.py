"""Power loss: the disk as it may be found when everything that wasn't synced is gone, or came in parts.

`Tape` reads what `strace` wrote down about one command: every write, sync, rename and removal with its data. `Disk`
plays the tape up to some point and keeps, for each file and each folder, what is durable apart from what is pending. A
sync makes durable what was written before it began, once it has returned. A folder's names are durable once the
folder was synced, its files' data once the files were.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crash.scene import OUTPUT, Calm, Scene, Story

CALLS = (
    "openat",
    "pwrite64",
    "write",
    "ftruncate",
    "fdatasync",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
)
SECTOR = 512
_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. (?P<back>\w+) resumed>(?P<rest>.*)|(?P<name>\w+)\((?P<args>.*))$")
_END = re.compile(r"\) += (?=\S+(?: [^=]*)?$)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


def recorder(log: Path) -> list[str]:
    """The words that put a command on tape."""
    options = ["-f", "-qq", "-y", "-xx", "-s", str(1 << 24), "-e", "signal=none", "-e", f"trace={','.join(CALLS)}"]
    return ["strace", *options, "-o", str(log)]


@dataclass(frozen=True)
class Step:
    """A call that begins (`result` None) or has returned; `number` is the same for both."""

    number: int
    name: str
    args: tuple[str, ...]
    result: str | None


class Tape:
    """The calls of one command in the order they began and returned."""

    def __init__(self, log: Path) -> None:
        self.steps = list(_steps(log.read_text(errors="surrogateescape")))

    def __len__(self) -> int:
        return len(self.steps)


def _steps(text: str) -> Iterator[Step]:
    open_calls: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(text.splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue  # a thread that ended
        pid = found["pid"]
        if found["back"]:
            begun, name, args = open_calls.pop(pid)
            rest = found["rest"]
        else:
            begun, name, args = number, found["name"], found["args"]
            if args.endswith("<unfinished ...>"):
                args = args.removesuffix("<unfinished ...>").rstrip()
                open_calls[pid] = (begun, name, args)
                yield Step(begun, name, _split(args), None)
                continue
            yield Step(begun, name, _split(_END.split(args)[0]), None)
            rest, args = args, ""
        before, result = _END.split(rest)
        yield Step(begun, name, _split(args + before), result)


def _split(args: str) -> tuple[str, ...]:
    """Arguments of a call; the strings in it are hexadecimal, so no comma of theirs is in the way."""
    return tuple(part.strip().rstrip(")") for part in args.split(", "))


def _bytes(argument: str) -> bytes:
    return bytes.fromhex(argument.strip('".').replace("\\x", ""))


def _text(argument: str) -> str:
    return _HEX.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode(), argument)


def _path_of(descriptor: str) -> str:
    """The path in `14</a/path>`."""
    return _text(descriptor).partition("<")[2].rpartition(">")[0].removesuffix(" (deleted)")


class File:
    """Data that is on the disk for certain, and changes that may be."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[tuple[int, bytes | None]] = []  # (offset, data), or (length, None) for a truncation

    def after(self, keep: Callable[[int, bytes | None], list[tuple[int, bytes | None]]]) -> bytes:
        """The durable data with that part of the pending changes that `keep` lets through."""
        data = bytearray(self.durable)
        for offset, change in self.pending:
            for at, part in keep(offset, change):
                _apply(data, at, part)
        return bytes(data)


def _apply(data: bytearray, offset: int, change: bytes | None) -> None:
    if change is None:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
        return
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(change)] = change


@dataclass
class Folder:
    """Names that are on the disk for certain, and those that are valid now."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    current: dict[str, File | Folder] = field(default_factory=dict)


class Disk:
    """A scene's folder, with all that a tape did to it so far; what was there before the tape is durable."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._top = str(scene.folder.resolve())
        self.root = Folder()
        self._offsets: dict[str, int] = {}
        self._syncing: dict[int, tuple[File | Folder, int | dict[str, File | Folder]]] = {}
        self._adopt(scene.folder, self.root)

    def _adopt(self, path: Path, folder: Folder) -> None:
        for entry in path.iterdir():
            if path == self._scene.folder and entry.name in self._scene.given:
                continue
            node: File | Folder
            if entry.is_dir():
                node = Folder()
                self._adopt(entry, node)
            else:
                node = File()
                node.durable = entry.read_bytes()
            folder.durable[entry.name] = folder.current[entry.name] = node

    # -- playing the tape --------------------------------------------------------------------------------------

    def play(self, step: Step) -> None:
        if step.result is None:
            if step.name in ("fsync", "fdatasync"):
                self._begin_sync(step)
        elif not step.result.startswith("-1"):
            match step.name:
                case "fsync" | "fdatasync":
                    self._end_sync(step)
                case "openat":
                    self._open(step)
                case "pwrite64":
                    self._write(step.args[0], int(step.args[3]), _bytes(step.args[1])[: int(step.result)])
                case "write":
                    self._append(step)
                case "ftruncate":
                    self._change(_path_of(step.args[0]), int(step.args[1]), None)
                case _:
                    self._rename_or_remove(step)

    def _find(self, path: str) -> tuple[Folder, str] | None:
        """The folder that holds a path's name; None for paths outside of the scene."""
        if not path.startswith(f"{self._top}/"):
            return None
        *parents, name = path[len(self._top) + 1 :].split("/")
        folder = self.root
        for parent in parents:
            below = folder.current.get(parent)
            if not isinstance(below, Folder):
                return None
            folder = below
        return folder, name

    def _node(self, path: str) -> File | Folder | None:
        if path == self._top:
            return self.root
        found = self._find(path)
        return found[0].current.get(found[1]) if found else None

    def _given(self, path: str) -> bool:
        return path.rpartition("/")[0] == self._top and path.rpartition("/")[2] in self._scene.given

    def _open(self, step: Step) -> None:
        assert step.result is not None
        path = _path_of(step.result)
        found = self._find(path)
        if found is None or self._given(path) or "O_DIRECTORY" in step.args[2]:
            return
        folder, name = found
        if "O_CREAT" in step.args[2] and name not in folder.current:
            folder.current[name] = File()
        elif "O_TRUNC" in step.args[2]:
            self._change(path, 0, None)
        self._offsets[path] = 0

    def _write(self, descriptor: str, offset: int, data: bytes) -> None:
        self._change(_path_of(descriptor), offset, data)

    def _append(self, step: Step) -> None:
        path = _path_of(step.args[0])
        if path in self._offsets:
            assert step.result is not None
            data = _bytes(step.args[1])[: int(step.result)]
            self._change(path, self._offsets[path], data)
            self._offsets[path] += len(data)

    def _change(self, path: str, offset: int, data: bytes | None) -> None:
        node = self._node(path)
        if isinstance(node, File) and not path.endswith("-shm"):  # shared memory: no file to rely on
            node.pending.append((offset, data))

    def _begin_sync(self, step: Step) -> None:
        node = self._node(_path_of(step.args[0]))
        if isinstance(node, File):
            self._syncing[step.number] = (node, len(node.pending))
        elif isinstance(node, Folder):
            self._syncing[step.number] = (node, dict(node.current))

    def _end_sync(self, step: Step) -> None:
        node, reach = self._syncing.pop(step.number, (None, 0))
        if isinstance(node, Folder) and isinstance(reach, dict):
            node.durable = reach
        elif isinstance(node, File) and isinstance(reach, int):
            data = bytearray(node.durable)
            for offset, change in node.pending[:reach]:
                _apply(data, offset, change)
            node.durable, node.pending = bytes(data), node.pending[reach:]
            for number, (other, later) in self._syncing.items():  # a sync of the same file that is still going on
                if other is node and isinstance(later, int):
                    self._syncing[number] = (node, max(0, later - reach))

    def _rename_or_remove(self, step: Step) -> None:
        paths = [self._absolute(_text(arg)) for arg in step.args if arg.startswith('"')]
        if step.name in ("unlinkat", "mkdirat"):
            base = _path_of(step.args[0])
            paths = [self._absolute(_text(step.args[1]), base)]
        places = [self._find(path) for path in paths]
        if places[0] is None or any(self._given(path) for path in paths):
            return
        folder, name = places[0]
        if step.name.startswith("rename"):
            assert places[1] is not None, f"{paths[0]} left the scene"
            target, new = places[1]
            target.current[new] = folder.current.pop(name)
            self._offsets[paths[1]] = self._offsets.pop(paths[0], 0)
        elif step.name.startswith("mkdir"):
            folder.current[name] = Folder()
        else:
            folder.current.pop(name, None)

    def _absolute(self, quoted: str, base: str = "") -> str:
        path = quoted.strip('"')
        return path if path.startswith("/") else f"{base or self._top}/{path}"

    # -- what may be found after a power loss ------------------------------------------------------------------

    def restore(self, loss: Loss) -> None:
        """Puts such a state of the disk in the place of the scene."""
        self._scene.wipe()
        self._lay(self.root, self._scene.folder, loss)

    def _lay(self, folder: Folder, path: Path, loss: Loss) -> None:
        for name, node in loss.names(folder).items():
            if isinstance(node, Folder):
                (path / name).mkdir(mode=0o700)
                self._lay(node, path / name, loss)
            elif not name.endswith("-shm"):
                (path / name).write_bytes(node.after(loss.keep))


class Loss:
    """How much of what was pending is found again: `nothing`, `everything`, or by chance `some` or `torn` sectors."""

    KINDS = ("nothing", "some", "torn", "everything")

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self._chance = random.Random(seed)

    def names(self, folder: Folder) -> dict[str, File | Folder]:
        if self.kind == "nothing":
            return folder.durable
        if self.kind == "everything":
            return folder.current
        return self._chance.choice((folder.durable, folder.current))

    def keep(self, offset: int, change: bytes | None) -> list[tuple[int, bytes | None]]:
        if self.kind == "nothing":
            return []
        if self.kind == "everything":
            return [(offset, change)]
        if self.kind == "some" or change is None:
            return [(offset, change)] if self._chance.random() < 0.5 else []
        kept: list[tuple[int, bytes | None]] = []
        at = 0
        while at < len(change):
            end = min(len(change), at + SECTOR - (offset + at) % SECTOR)
            if self._chance.random() < 0.5:
                kept.append((offset + at, change[at:end]))
            at = end
        return kept


def claims(tape: Tape, rows: int) -> list[int]:
    """For each step, how many answers the command had told anybody of when it began: on stderr, or by its output."""
    told, most = [], 0
    for step in tape.steps:
        if step.result is None and step.name == "write" and step.args[0].startswith("2<"):
            found = re.search(rb'"answered": ?(\d+)', _bytes(step.args[1]))
            most = max(most, int(found[1])) if found else most
        if step.result is None and step.name == "rename" and _text(step.args[1]).strip('"').endswith(OUTPUT):
            most = rows
        told.append(most)
    return told


@dataclass(frozen=True)
class Recording:
    """A command on tape, and the disk as it was before."""

    disk: Disk
    tape: Tape
    told: list[int]

    @classmethod
    def of(cls, scene: Scene, words: Sequence[str], log: Path, disk: Disk | None = None) -> Recording:
        """Plays a command and records it; `disk` is an earlier one that the scene was restored from."""
        disk = disk or Disk(scene)
        ended = scene.play([*words, "--json"], recorder(log))
        assert ended.code in (0, 3), f"the recorded command ended with {ended.code}: {ended.err}"
        tape = Tape(log)
        return cls(disk, tape, claims(tape, scene.rows))

    def cuts(self, count: int, seed: int) -> list[int]:
        """Moments spread evenly over the calls that change or sync anything, each moved a little by chance."""
        chance = random.Random(seed)
        moments = [at for at, step in enumerate(self.tape.steps) if step.name != "openat"]
        width = len(moments) / count
        return [moments[int(width * (number + chance.random()))] for number in range(count)]

    def advance(self, done: int, cut: int) -> None:
        """Plays the steps from `done` on, up to and with `cut`."""
        for step in self.tape.steps[done : cut + 1]:
            self.disk.play(step)


def survive(scene: Scene, calm: Calm, recording: Recording, cut: int, loss: Loss) -> Story:
    """What was told before the cut must be there after the loss, and the run must go on to its end."""
    recording.disk.restore(loss)
    story = Story(scene, calm)
    there = len(scene.look().answers)
    if there < recording.told[cut]:
        story.faults.append(f"lost: {recording.told[cut]} answers were counted, {there} are there")
    story.finish()
    return story
