"""The files of one split in a folder, as data sets are kept: `train.jsonl`, `data/train-00000-of-00002.parquet`,
`validation_data.json`, `test/part-1.csv`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenmill.errors import InputFaults, TokenmillError, UsageError
from tokenmill.workload.faults import refuse, shown
from tokenmill.workload.spec import SUFFIXES, Spec

#: Other names of splits, as data sets on the hub use them.
ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
#: A split's name, and what files of one split may have after it: `_data`, the number of a part, a digest.
_NAME = re.compile(r"(.+?)(?:[-_.]data)?(?:[-_.](?:part[-_.]?)?\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?)?")
_LISTED = 20


def canonical(name: str) -> str:
    """The one name of a split that has several."""
    folded = name.strip().casefold()
    return ALIASES.get(folded, folded)


def is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # no name at all; whoever opens it says so
        return False


def split_files(spec: Spec) -> list[Path]:
    """The files of the split, in the order of their names; raises `InputFaults` if they can't be told."""
    folder = Path(spec.source)
    if spec.shares is not None:
        raise UsageError(f"{folder} is a folder, whose files are its splits; leave --shares out, or name one file")
    try:
        found = _found(folder)
    except OSError as error:
        raise refuse(spec.source, f"can't be read ({error.strerror}); check the path and its permissions") from error
    if spec.split is None:
        raise refuse(spec.source, f"is a folder; name one file{_or_split(found)}")
    files = found.get(spec.split.casefold()) or [
        path for name, each in found.items() if canonical(name) == canonical(spec.split) for path in each
    ]
    if not files:
        raise _no_split(spec, found)
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) > 1:
        raise refuse(
            spec.source, f"split {spec.split!r} has files of several kinds ({', '.join(sorted(kinds))}); keep one kind"
        )
    return sorted(files)


def sources_of(spec: Spec) -> list[Path]:
    """The files of an input; none if it has none, or if they can't be told, which whoever opens them says."""
    if not is_folder(spec.source):
        return [Path(spec.source)]
    try:
        return split_files(spec)
    except TokenmillError:
        return []


def _found(folder: Path) -> dict[str, list[Path]]:
    """Files by the name of their split."""
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        if not place.is_dir():
            continue
        for path in sorted(place.iterdir()):
            if path.is_dir() and path.name != "data":
                files = [each for each in sorted(path.iterdir()) if _is_data(each)]
                if files:
                    found.setdefault(path.name.casefold(), []).extend(files)
            elif _is_data(path):
                name = _NAME.fullmatch(path.stem)
                found.setdefault((name[1] if name else path.stem).casefold(), []).append(path)
    return found


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _or_split(found: dict[str, list[Path]]) -> str:
    return f", or a split of it with --split: {_names(found)}" if found else ""


def _no_split(spec: Spec, found: dict[str, list[Path]]) -> InputFaults:
    there = f"there are {_names(found)}" if found else f"it holds no files that end in {', '.join(SUFFIXES)}"
    return refuse(spec.source, f"has no split {spec.split!r}; {there}")


def _names(found: dict[str, list[Path]]) -> str:
    names = sorted(found)
    return ", ".join(map(shown, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
