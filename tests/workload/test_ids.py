"""Repeated ids are found exactly, without keeping ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import InputFaults
from tokenmill.workload import ROWS, Spec
from tokenmill.workload.ids import Ids
from workload.reading import fault, faults, jsonl, scanned, write


def row(custom_id: str | None) -> dict[str, object]:
    return {"prompt": "a"} if custom_id is None else {"custom_id": custom_id, "prompt": "a"}


def test_both_lines_of_a_repeated_id_are_named(tmp_path: Path) -> None:
    """Every later use of an id is a fault that names its own line and the first."""
    found = faults(jsonl(row("a"), row("b"), row("a"), row("a")), tmp_path)

    assert found == (
        "line 3: custom_id 'a' is already used on line 1; give each row its own",
        "line 4: custom_id 'a' is already used on line 1; give each row its own",
    )


def test_ids_of_the_same_unicode_text_are_one(tmp_path: Path) -> None:
    """A composed and a decomposed letter make the same id."""
    found = fault(jsonl(row("caf\u00e9"), row("cafe\u0301")), tmp_path)

    assert "is already used on line 1 as 'caf\\xe9', the same Unicode text" in found


def test_made_ids_meet_given_ones(tmp_path: Path) -> None:
    """An id made for a row without one may clash with one that is given, before or after it."""
    assert "line 2: custom_id 'row-2', made for this row" in fault(jsonl(row("row-2"), row(None)), tmp_path)
    assert "line 2: custom_id 'row-1' is already" in fault(jsonl(row(None), row("row-1")), tmp_path)


def test_a_row_that_is_no_json_blocks_no_id(tmp_path: Path) -> None:
    """A broken row whose id is unknown is not the cause of a second fault."""
    assert faults("{\n" + jsonl(row("row-1")), tmp_path)[0].startswith("line 1: broken JSON")
    assert len(faults("{\n" + jsonl(row("row-1")), tmp_path)) == 1


def test_many_rows_are_told_apart(tmp_path: Path) -> None:
    """The table grows with the rows and still finds the one repeated id."""
    rows = [row(f"id-{number}") for number in range(5000)] + [row("id-1234")]
    assert "custom_id 'id-1234' is already used on line 1235" in fault(jsonl(*rows), tmp_path)
    entries, _ = scanned(Spec(source=str(write(tmp_path, jsonl(*rows[:-1])))), tmp_path)
    assert len({entry.custom_id for entry in entries}) == 5000


@given(st.lists(st.sampled_from([f"id{number}" for number in range(40)]) | st.text(max_size=3), max_size=200))
def test_claims_agree_with_a_dictionary(names: list[str]) -> None:
    """The table answers as a plain dictionary of normalised ids would."""
    from tokenmill.workload.ids import normal

    kept: list[str] = []
    ids = Ids(lambda row: kept[row])
    first: dict[str, int] = {}
    for name in names:
        earlier = ids.claim(name, len(kept), 1, 1)
        assert earlier == first.get(normal(name))
        if earlier is None:
            first[normal(name)] = len(kept)
            kept.append(name)


def test_a_collision_of_hashes_is_no_repetition() -> None:
    """Ids are compared as text before one is called repeated."""

    class Colliding(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    kept = [Colliding("a"), Colliding("b")]
    ids = Ids(lambda row: kept[row])

    assert ids.claim(kept[0], 0, 1, 1) is None
    assert ids.claim(kept[1], 1, 1, 2) is None
    assert ids.claim(Colliding("b"), 2, 1, 3) == 1


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "-", ROWS])
def test_repeated_ids_are_found_in_every_kind_of_input(tmp_path: Path, name: str) -> None:
    """The earlier row is read again from the spool while that is still being written."""
    rows = [row("a"), row("b"), row("a")]
    table = "custom_id,prompt\na,x\nb,x\na,x\n"
    source = name if name in ("-", ROWS) else str(write(tmp_path, table if name == "in.csv" else jsonl(*rows), name))
    stdin = jsonl(*rows).encode() if name == "-" else None
    with pytest.raises(InputFaults, match=r"custom_id 'a' is already used on (line|row) [12]; give each") as caught:
        scanned(Spec(source=source), tmp_path, rows=rows if name == ROWS else None, stdin=stdin)
    assert len(caught.value.faults) == 1


def test_bad_rows_that_fail_have_ids_that_no_other_row_has(tmp_path: Path) -> None:
    """A row whose id is taken gets another, and a later row can't take that one either."""
    rows = [row("row-2"), row("row-2"), row("row-2+"), row("row-3"), row(None)]
    spec = Spec(source=str(write(tmp_path, jsonl(*rows))), bad_rows="fail")
    entries, _ = scanned(spec, tmp_path)

    assert [entry.custom_id for entry in entries] == ["row-2", "row-2+", "row-3", "row-4", "row-5"]
    assert [entry.fault is None for entry in entries] == [True, False, False, False, True]
