"""The journal of an output: what it remembers, what it forgets, and whom it keeps out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenmill.errors import UsageError
from tokenmill.quant.journal import Identity, Journal

IDENTITY = Identity(version="1", inputs=(("a", 3, 4, "5"),), options="none", layout="6")


@given(done=st.lists(st.booleans(), min_size=1, max_size=300))
def test_remembers_which_chunks_are_done(tmp_path_factory: pytest.TempPathFactory, done: list[bool]) -> None:
    """Any set of chunks comes back as it was marked, with the figures that belong to it."""
    path = tmp_path_factory.mktemp("journal") / "j"
    figures = np.random.default_rng(len(done)).random((len(done), 5))
    journal = Journal.open(path)
    journal.begin(IDENTITY, len(done), 5)
    journal.figures[:] = figures
    journal.mark(np.array(done, np.uint8))
    journal.close()

    again = Journal.open(path)
    assert again.read() == IDENTITY
    again.go_on(IDENTITY, len(done), 5)
    assert again.done.tolist() == done
    assert np.array_equal(again.figures, figures)
    again.close()


@given(length=st.integers(0, 400), noise=st.binary(max_size=40))
def test_a_torn_beginning_is_no_beginning(tmp_path_factory: pytest.TempPathFactory, length: int, noise: bytes) -> None:
    """A journal whose first lines aren't whole, or are something else, says that nothing was begun."""
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal.open(path)
    journal.begin(IDENTITY, 8)
    journal.close()
    content = path.read_bytes()
    whole = content.index(b"\n", content.index(b"\n") + 1) + 1
    torn_content = content[: min(length, whole - 1)] + noise
    assume(not torn_content.startswith(content[:whole]))
    path.write_bytes(torn_content)

    torn = Journal.open(path)
    assert torn.read() is None
    torn.close()


def test_keeps_a_second_process_out(tmp_path: Path) -> None:
    """A journal that is open can't be opened again; once it is closed, or removed, it can."""
    journal = Journal.open(tmp_path / "j")
    with pytest.raises(UsageError, match="another process"):
        Journal.open(tmp_path / "j")
    journal.remove()
    other = Journal.open(tmp_path / "j")  # of a new file: the first is whole and about to be closed
    journal.close()
    with pytest.raises(UsageError, match="another process"):
        Journal.open(tmp_path / "j")
    other.close()
    Journal.open(tmp_path / "j").close()


def test_starting_over_forgets(tmp_path: Path) -> None:
    """After a second beginning nothing is done."""
    journal = Journal.open(tmp_path / "j")
    journal.begin(IDENTITY, 20)
    journal.mark(np.ones(20, np.uint8))
    journal.begin(IDENTITY, 20)
    journal.close()

    again = Journal.open(tmp_path / "j")
    again.go_on(IDENTITY, 20)
    assert not again.done.any()
    again.close()
