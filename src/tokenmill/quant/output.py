"""The output while it is made: under a name of its own beside the final one, which it takes only when it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.model.files import BadModel
from tokenmill.quant.files import Files, sync_folder, write_fault
from tokenmill.quant.layout import Layout, SmallFile
from tokenmill.quant.numbers import size

#: What the file or folder is called until it is whole, and its journal.
PARTIAL = ".partial"
JOURNAL = ".partial.journal"


class Output:
    """The output `path` of a layout; `force` lets it take the place of a file, or of a folder with a model, there."""

    def __init__(self, path: Path, layout: Layout, *, force: bool) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.journal = path.with_name(path.name + JOURNAL)
        self._layout = layout
        self._force = force

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the files of the layout are written."""
        if not self._layout.is_folder:
            return (self.partial,)
        return tuple(self.partial / file.name for file in self._layout.files)

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(file.size for file in self._layout.files) + sum(map(_size_of, self._layout.small_files))

    def check(self, inputs: tuple[Path, ...]) -> None:
        """Refuses an output that can't be, or that would take the place of something that must stay."""
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise UsageError(f"{self.path}: there is no folder {parent}; make it first")
        names = [file.name for file in self._layout.files] + [file.name for file in self._layout.small_files]
        for name in names if self._layout.is_folder else []:
            if not _is_plain(name):
                raise BadModel(f"{name!r} isn't a plain file name; take the model only from a source you trust")
        if not os.path.lexists(self.path):
            return
        real = self.path.resolve()
        if any(real in (path.resolve(), path.parent.resolve()) for path in inputs):
            raise UsageError(f"{self.path} is the model itself; name another output")
        if self.path.is_dir() != self._layout.is_folder or self.path.is_symlink():
            what = "a folder" if self.path.is_dir() else "a file or a link"
            raise UsageError(f"{self.path} is {what}, which isn't what would be written; name another output")
        if not self._force:
            raise UsageError(f"{self.path} exists; name another output, or replace it with --force")
        if self._layout.is_folder and any(self.path.iterdir()) and not (self.path / "config.json").is_file():
            raise UsageError(f"{self.path} holds something that isn't a model; remove it yourself, or name another")

    def check_space(self) -> None:
        """Refuses what wouldn't fit on the disk; what an earlier run wrote counts as there."""
        there = sum(path.stat().st_blocks * 512 for path in self.files if path.is_file())
        free = shutil.disk_usage(self.path.absolute().parent).free
        if self.size - there > free:
            raise UsageError(
                f"{self.path} takes {size(self.size - there)} more but {size(free)} are free; make room, or name an "
                "output on another disk"
            )

    def is_begun(self) -> bool:
        """Whether the partial output is there with all files at their sizes."""
        expected = zip(self.files, self._layout.files, strict=True)
        return all(path.is_file() and path.stat().st_size == file.size for path, file in expected)

    def discard(self) -> None:
        """Removes the partial output."""
        if self.partial.is_dir() and not self.partial.is_symlink():
            shutil.rmtree(self.partial)
        else:
            self.partial.unlink(missing_ok=True)

    def begin(self) -> None:
        """Makes the files at their full sizes, without taking the space yet."""
        try:
            if self._layout.is_folder:
                self.partial.mkdir(exist_ok=True)
            for path, file in zip(self.files, self._layout.files, strict=True):
                with path.open("ab") as made:
                    made.truncate(file.size)
        except OSError as error:
            raise write_fault(self.partial, error) from error

    def fill(self, files: Files) -> None:
        """Writes what the plan already knows: headers, literals and small files."""
        for number, file in enumerate(self._layout.files):
            files.put(number, 0, file.header)
        for literal in self._layout.literals:
            files.put(literal.place.file, literal.place.offset, literal.content)
        for small in self._layout.small_files:
            path = self.partial / small.name
            try:
                with path.open("wb") as made:
                    made.write(_content(small))
                    made.flush()
                    os.fsync(made.fileno())
            except OSError as error:
                raise write_fault(path, error) from error

    def publish(self) -> None:
        """Gives the output its name; its bytes are on disk already."""
        try:
            if self._layout.is_folder:
                sync_folder(self.partial)
            if os.path.lexists(self.path) and not self._force:
                raise UsageError(
                    f"{self.path} has appeared meanwhile; what was made is whole in {self.partial}, rename it yourself"
                )
            if self._layout.is_folder and self.path.is_dir():
                old = self.path.with_name(f"{self.path.name}.replaced")
                self.path.rename(old)
                self.partial.rename(self.path)
                shutil.rmtree(old)
            else:
                self.partial.replace(self.path)
            sync_folder(self.path.absolute().parent)
        except OSError as error:
            raise write_fault(self.path, error) from error


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not any(sign in name for sign in "/\\\0")


def _size_of(small: SmallFile) -> int:
    return len(small.content) if isinstance(small.content, bytes) else small.content.stat().st_size


def _content(small: SmallFile) -> bytes:
    return small.content if isinstance(small.content, bytes) else small.content.read_bytes()
