"""A sweep's folder: what was asked for, every reading as soon as it is there, and the results.

`manifest.json` is written once. `readings.jsonl` gets one line a reading, synced before the next one begins; a line
that a crash cut off is dropped when the sweep goes on. The lock is that of runs: one process at a time.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct

from tokenmill.bench.cell import Reading
from tokenmill.errors import StorageError, UsageError
from tokenmill.record.atomic import make_folder, whole_file
from tokenmill.record.folder import machine_facts, versions

MANIFEST, READINGS = "manifest.json", "readings.jsonl"


class Plan(Struct, frozen=True, kw_only=True):
    """What a sweep is: `options` are the suite's own, `machine` and `versions` what it was started on.

    `discard`: readings taken before the first that counts, and before the first after an interruption.
    """

    sweep: str
    suite: str
    options: dict[str, Any]
    repeats: int
    seed: int
    targets: tuple[str, ...]
    created: str
    machine: dict[str, str]
    versions: dict[str, str]
    threads: str = ""
    discard: int = 0


def sweeps_folder(chosen: Path | None) -> Path:
    """`--bench-dir`, else TOKENMILL_BENCH, else the user's state folder."""
    named = chosen or os.environ.get("TOKENMILL_BENCH")
    return Path(named) if named else Path(platformdirs.user_state_dir("tokenmill")) / "bench"


class SweepFolder:
    """One sweep on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        where: Path,
        suite: str,
        options: dict[str, Any],
        *,
        repeats: int,
        seed: int,
        targets: tuple[str, ...],
        discard: int = 0,
    ) -> SweepFolder:
        """Makes the folder of a new sweep.

        Raises:
            UsageError: it can't be made there.
        """
        name = f"{suite}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        path = where / name
        plan = Plan(
            sweep=name,
            suite=suite,
            options=options,
            repeats=repeats,
            seed=seed,
            targets=targets,
            discard=discard,
            created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            machine=machine_facts(),
            versions=versions(),
            threads=os.environ.get("OMP_NUM_THREADS", ""),
        )
        try:
            make_folder(path)
            with whole_file(path / MANIFEST) as file:
                file.write(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
        except OSError as error:
            with suppress(OSError):
                path.rmdir()
            raise UsageError(f"{path}: can't be made ({error.strerror}); use --bench-dir") from error
        return cls(path)

    @property
    def plan(self) -> Plan:
        try:
            return msgspec.json.decode((self.path / MANIFEST).read_bytes(), type=Plan)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(f"{self.path}: is no sweep ({error}); give the folder of one") from error

    def readings(self) -> list[Reading]:
        """All that was measured so far, the last one of each cell and repeat.

        A last line without its end was never measured, even if it reads well: the next reading takes its place.

        Raises:
            UsageError: a line is no reading, or the file can't be read.
        """
        path = self.path / READINGS
        try:
            *lines, _ = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror}); check its owner") from error
        found: dict[tuple[str, int], Reading] = {}
        for number, line in enumerate(lines, start=1):
            try:
                reading = msgspec.json.decode(line, type=Reading)
            except msgspec.DecodeError as error:
                raise UsageError(f"{path}, line {number}: {error}; remove that line") from error
            found.pop((reading.cell, reading.repeat), None)
            found[reading.cell, reading.repeat] = reading
        return list(found.values())

    def add(self, reading: Reading) -> None:
        """Keeps a reading, durably.

        Raises:
            StorageError: it can't be written; the ones before it are kept.
        """
        path = self.path / READINGS
        try:
            self._cut_half_a_line(path)
            with path.open("ab") as file:
                file.write(msgspec.json.encode(reading) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path}: can't be written ({error.strerror}); what was measured is kept") from error

    @staticmethod
    def _cut_half_a_line(path: Path) -> None:
        """Takes away what a crash left of a line, as the next one would be glued to it."""
        if not path.exists() or path.stat().st_size == 0:
            return
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def find_sweep(where: Path, name: str) -> SweepFolder:
    """A sweep by its id, its path, or `last`.

    Raises:
        UsageError: there is none.
    """
    if _is_sweep(Path(name)):
        return SweepFolder(Path(name))
    known = sorted((each.parent for each in where.glob(f"*/{MANIFEST}")), key=lambda path: path.stat().st_mtime)
    if name == "last" and known:
        return SweepFolder(known[-1])
    if _is_sweep(where / name):
        return SweepFolder(where / name)
    told = ", ".join(path.name for path in known[-5:]) or "none"
    raise UsageError(f"no sweep {name!r} in {where}; the last ones: {told}")


def _is_sweep(path: Path) -> bool:
    try:
        return (path / MANIFEST).is_file()
    except OSError:  # too long for a name
        return False
