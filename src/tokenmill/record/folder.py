"""Where runs live: `RUNS/<run-id>/` with the record, the manifest, the spooled input and the answers.

A folder is prepared under a name that starts with a dot and gets its own name when the whole input is valid, so a
run either exists, complete and resumable, or doesn't exist.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from tokenmill.errors import UsageError
from tokenmill.record.atomic import make_folder, sync_folder, whole_file
from tokenmill.record.lock import is_alive, is_locked
from tokenmill.record.place import shared_kind
from tokenmill.workload import Input

PROBE_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Manifest(msgspec.Struct, kw_only=True, omit_defaults=False):
    """What a run was made from. `options` is everything that shapes answers; a resume with others is refused.

    `embedding_digest` identifies the model that makes the vectors of a recipe's checks; empty without one.
    """

    run_id: str
    run_hash: str
    created: str
    argv: list[str]
    folder: str
    output: str | None
    input: Input
    rows: int
    model: str
    model_digest: str
    options: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    machine: dict[str, str]
    versions: dict[str, str]
    embedding_digest: str = ""


def machine_facts() -> dict[str, str]:
    """What a reader of the record needs to know of the machine; nothing that identifies a person."""
    return {"system": platform.platform(), "processor": processor_name(), "cores": str(os.cpu_count() or 0)}


def processor_name() -> str:
    """The processor's own name, or its architecture where the system doesn't tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    return {"tokenmill": metadata.version("tokenmill"), "python": sys.version.split()[0]}


def runs_folder(chosen: Path | None) -> Path:
    """`--runs-dir`, else TOKENMILL_RUNS, else the user's state folder."""
    named = chosen or os.environ.get("TOKENMILL_RUNS")
    runs = Path(named) if named else Path(platformdirs.user_state_dir("tokenmill")) / "runs"
    try:
        runs.exists()
    except OSError as error:
        raise UsageError(f"{runs}: can't hold runs ({error.strerror}); use --runs-dir") from error
    return runs


def new_run_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def find(runs: Path, run: str) -> Path:
    """The folder of a run given by id, by path or as `last`."""
    if run == "last":
        folders = list_runs(runs)
        if not folders:
            raise UsageError(f"no runs in {runs}; start one with 'tokenmill run'")
        return folders[-1]
    for folder in (runs / run, Path(run)):
        with contextlib.suppress(OSError):  # no name at all, or not ours to read
            if (folder / "manifest.json").is_file():
                return folder
    raise UsageError(f"no run {run!r} in {runs}; 'tokenmill runs list' shows those there are")


def list_runs(runs: Path) -> list[Path]:
    """All runs, oldest first."""
    if not runs.is_dir():
        return []
    found = [
        folder for folder in runs.iterdir() if not folder.name.startswith(".") and (folder / "manifest.json").is_file()
    ]
    return sorted(found, key=lambda folder: ((folder / "manifest.json").stat().st_mtime_ns, folder.name))


def prepare(runs: Path, run_id: str) -> Path:
    """A folder to fill, after a probe that really writes, syncs and renames there.

    Raises:
        UsageError: the name is taken or unfit, the place can't be written, or the disk is full.
    """
    if not _NAME.fullmatch(run_id):
        raise UsageError(f"run id {run_id!r}: use letters, digits, '.', '_' and '-', starting with a letter or digit")
    if (runs / run_id).exists():
        raise UsageError(f"run {run_id!r} exists; go on with 'tokenmill resume {run_id}' or choose another --run-id")
    folder = runs / f".{run_id}.{os.getpid()}.new"
    try:
        make_folder(runs)
        folder.mkdir(mode=0o700)
        _probe(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(
            f"can't write runs in {runs}: {error.strerror or error}; free space or use --runs-dir"
        ) from error
    return folder


def _probe(folder: Path) -> None:
    probe = folder / "probe"
    with whole_file(probe) as file:
        file.write(bytes(PROBE_BYTES))
    probe.unlink()


def publish(prepared: Path, manifest: Manifest) -> Path:
    """Gives a prepared folder its own name."""
    write_manifest(prepared, manifest)
    folder = prepared.with_name(manifest.run_id)
    try:
        prepared.rename(folder)
    except OSError as error:
        raise UsageError(f"run {manifest.run_id!r} exists; choose another --run-id") from error
    sync_folder(folder.parent)
    return folder


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with whole_file(folder / "manifest.json") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: unreadable ({error}); restore the run folder from a copy") from error


def remove(folder: Path) -> None:
    """Deletes a run that no process works on."""
    if is_locked(folder):
        raise UsageError(f"run {folder.name} is in use; stop it with Ctrl-C first")
    shutil.rmtree(folder)


def remove_abandoned(runs: Path) -> int:
    """Deletes folders whose preparation never ended because their process died; returns how many.

    None where other hosts may prepare runs: a number says nothing of whether a process there is alive.
    """
    removed = 0
    for folder in runs.glob(".*.new") if runs.is_dir() and not shared_kind(runs) else ():
        pid = folder.name.split(".")[-2]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed
