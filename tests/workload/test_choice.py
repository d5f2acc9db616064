"""Which rows are taken: of a folder, by a field, by shares, and by chance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.errors import InputFaults, UsageError
from tokenmill.workload import ROWS, Reader, Spec
from workload.reading import jsonl, requests, scanned, write

SHARES = {"train": 80.0, "validation": 10.0, "test": 10.0}


def ids(folder: Path, rows: list[object], **options: object) -> list[str]:
    entries, _ = scanned(Spec(source=ROWS, **options), folder, rows=rows)  # type: ignore[arg-type]
    assert [entry.row for entry in entries] == list(range(len(entries)))
    return [entry.custom_id for entry in entries]


def test_a_split_takes_the_rows_whose_field_says_so(tmp_path: Path) -> None:
    """Names that mean the same split are one; ids count all rows, so they are the same in every split."""
    rows: list[object] = [{"prompt": "a", "split": name} for name in ("train", "val", "Validation", "test", "dev")]

    assert ids(tmp_path, rows, split="validation") == ["row-2", "row-3", "row-5"]
    assert ids(tmp_path, rows, split="test") == ["row-4"]


def test_a_split_that_no_row_is_in_names_those_there_are(tmp_path: Path) -> None:
    """The message lists the splits with their rows."""
    rows: list[object] = [{"prompt": "a", "split": "train"}, {"prompt": "b", "split": "seen"}]
    with pytest.raises(InputFaults, match=r"no row is in split 'unseen'; there are 'train' \(1\), 'seen' \(1\)"):
        ids(tmp_path, rows, split="unseen")


@pytest.mark.parametrize("rows", [[{"prompt": "a"}], [{"prompt": "a", "split": "train"}, {"prompt": "b"}]])
def test_a_row_that_names_no_split_is_refused(tmp_path: Path, rows: list[object]) -> None:
    """A row that may belong anywhere is not left out in silence."""
    with pytest.raises(InputFaults, match=r"has no field 'split' that says where it belongs; deal rows out"):
        ids(tmp_path, rows, split="train")


def test_faults_of_other_splits_do_not_matter(tmp_path: Path) -> None:
    """Only rows that are taken must be fit to be asked."""
    rows: list[object] = [{"prompt": "a", "split": "train"}, {"prompt": 5, "split": "test"}]

    assert ids(tmp_path, rows, split="train") == ["row-1"]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(0, 20))
def test_shares_deal_each_row_to_one_split_whatever_else_is_there(seed: int, count: int, more: int) -> None:
    """Splits are disjoint and together the whole; rows that are added move none."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        dealt = {}
        for rows in (count, count + more):
            every: list[object] = [{"custom_id": f"r{n}", "prompt": "a"} for n in range(rows)]
            for split in SHARES:
                try:
                    dealt[rows, split] = set(ids(Path(name), every, split=split, shares=SHARES, seed=seed))
                except InputFaults as error:
                    assert "no row is dealt" in str(error)  # noqa: PT017
                    dealt[rows, split] = set()
    first = [dealt[count, split] for split in SHARES]
    assert sum(map(len, first)) == len(set.union(*first)) == count
    assert all(dealt[count, split] <= dealt[count + more, split] for split in SHARES)


def test_shares_are_met_on_the_average(tmp_path: Path) -> None:
    """Of 5,000 rows each split has its share within 2 of a hundred."""
    every: list[object] = [{"prompt": str(n)} for n in range(5000)]
    sizes = {split: len(ids(tmp_path, every, split=split, shares=SHARES, seed=1)) for split in SHARES}

    assert all(abs(sizes[split] / 50 - share) < 2 for split, share in SHARES.items())


def test_an_episode_is_dealt_whole(tmp_path: Path) -> None:
    """No episode has dialogs in two splits."""
    dialogs = [{"answer": "one two three"}, {"answer": "four five six"}]
    rows: list[object] = [{"episode_id": n, "dialogs": dialogs} for n in range(60)]
    taken = [
        Counter(
            name.partition("/")[0] for name in ids(tmp_path, rows, template="{{ answer }}", split=split, shares=SHARES)
        )
        for split in SHARES
    ]

    assert all(set(each.values()) == {2} for each in taken)
    assert sum(map(len, taken)) == 60


def test_a_sample_is_by_chance_and_repeats_with_its_seed(tmp_path: Path) -> None:
    """The rows of a sample are other ones with another seed, stand in their order, and don't depend on the rest."""
    rows: list[object] = [{"prompt": str(n)} for n in range(200)]
    one, again, other = (ids(tmp_path, rows, sample=10, seed=seed) for seed in (1, 1, 2))
    numbers = [int(name.removeprefix("row-")) for name in one]

    assert one == again != other
    assert numbers == sorted(numbers)
    assert numbers[-1] > 10
    assert set(ids(tmp_path, rows[:150], sample=10, seed=1)) & set(one)
    assert len(ids(tmp_path, rows[:4], sample=10)) == 4


def test_a_sample_of_a_split_is_read_back(tmp_path: Path) -> None:
    """What is taken lies where the scan says, in a file that is read in place."""
    path = write(tmp_path, jsonl(*({"prompt": f"p{n}", "split": "train" if n % 2 else "test"} for n in range(40))))
    spec = Spec(source=str(path), split="train", sample=5, seed=3)
    entries, found = scanned(spec, tmp_path)
    with Reader(spec, found) as reader:
        prompts = [reader.request(e.row, e.custom_id, e.offset, e.length, e.line).prompt for e in entries]

    assert found.rows == 5
    assert [int(str(prompt)[1:]) for prompt in prompts] == [int(e.custom_id[4:]) - 1 for e in entries]
    assert all(int(str(prompt)[1:]) % 2 for prompt in prompts)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sample": 0}, "a sample of 0 leaves no rows"),
        ({"sample": 3, "limit": 3}, "both a sample and a limit are given"),
        ({"split": " "}, "the split has no name"),
        ({"shares": SHARES}, "shares need a split to take; add --split train"),
        ({"shares": SHARES, "split": "dev"}, "split 'dev' has no share; the shares name train, validation, test"),
        ({"shares": {"train": -1.0}, "split": "train"}, "share train=-1 is no share"),
        ({"shares": {"train": float("nan")}, "split": "train"}, "share train=nan is no share"),
    ],
)
def test_choices_that_can_not_hold_are_refused(tmp_path: Path, options: dict[str, object], told: str) -> None:
    """The value and the way out are named before anything is read."""
    with pytest.raises(UsageError, match=told):
        ids(tmp_path, ["a"], **options)


def prompts(folder: Path, spool: Path, split: str) -> list[str | None]:
    return [request.prompt for request in requests(Spec(source=str(folder), split=split), spool)]


def test_the_files_of_a_folder_are_its_splits(tmp_path: Path) -> None:
    """Files are told by their names, as data sets are kept; parts of one split are read in their order."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "test").mkdir()
    write(folder, jsonl({"prompt": "one"}), "train.jsonl")
    write(folder, jsonl({"prompt": "three"}), "data/val-00001-of-00002.jsonl")
    write(folder, jsonl({"prompt": "two"}), "data/val-00000-of-00002.jsonl")
    write(folder, '["four"]', "val_seen_data.json")
    write(folder, "five\n", "test/part-1.txt")
    write(folder, "six\n", "test/part-2.txt")
    write(folder, "no data", "README.md")
    spool = tmp_path / "spool"

    assert prompts(folder, spool, "train") == ["one"]
    assert prompts(folder, spool, "validation") == ["two", "three"]
    assert prompts(folder, spool, "val_seen") == ["four"]
    assert prompts(folder, spool, "test") == ["five", "six"]
    with pytest.raises(InputFaults, match="has no split 'dev_unseen'; there are 'test', 'train', 'val', 'val_seen'"):
        prompts(folder, spool, "dev_unseen")
    with pytest.raises(InputFaults, match="is a folder; name one file, or a split of it with --split: 'test', 'train'"):
        scanned(Spec(source=str(folder)), spool)


def test_the_parts_of_a_split_are_parquet_too(tmp_path: Path) -> None:
    """Rows of several tables are counted on from one to the next."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "set"
    folder.mkdir()
    for part in range(2):
        table = pyarrow.table({"prompt": [f"{part}a", f"{part}b"]})
        pyarrow.parquet.write_table(table, folder / f"train-0000{part}-of-00002.parquet")
    entries, found = scanned(Spec(source=str(folder), split="train"), tmp_path / "spool")

    assert [entry.line for entry in entries] == [1, 2, 3, 4]
    assert (found.kind, found.unit, found.source) == ("table", "row", None)


def test_a_fault_in_a_part_names_its_file(tmp_path: Path) -> None:
    """A line that is no JSON is told with the file it is in."""
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder, jsonl({"prompt": "a"}), "train-0.jsonl")
    write(folder, jsonl({"prompt": "a"}) + "\n\xff", "train-1.jsonl")
    write(folder, jsonl({"prompt": "a"}), "other.csv")
    with pytest.raises(InputFaults, match=r"row 3 \(train-1.jsonl, row 2\): broken JSON"):
        scanned(Spec(source=str(folder), split="train"), tmp_path / "spool")
