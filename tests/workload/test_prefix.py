"""Conversations that share a long beginning are told apart from those that only share a wording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.event import WORDINGS, group_of, prefix_of
from tokenmill.request import Message
from tokenmill.workload import Spec
from tokenmill.workload.prefix import LONG, MAX_PREFIXES, Prefixes
from workload.reading import scanned, write

LAW, BIRDS = "You know the law. " * 40, "You know all birds. " * 40


def turns(*contents: str) -> list[Message]:
    roles = ["system", *["user", "assistant"] * len(contents)]
    return [Message(role, content) for role, content in zip(roles, contents, strict=False)]


def groups(folder: Path, rows: Sequence[object], **options: object) -> list[int]:
    path = write(folder, "".join(json.dumps(row) + "\n" for row in rows))
    entries, _ = scanned(Spec(source=str(path), **options), folder)  # type: ignore[arg-type]
    return [entry.group for entry in entries]


def asked(system: str, prompt: str) -> dict[str, object]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}]}


def test_rows_with_one_long_system_prompt_share_a_prefix(tmp_path: Path) -> None:
    """The prefix follows the system prompt, whatever is asked; within it the wording is told apart as before."""
    rows = [asked(LAW, "List 3 rules"), asked(BIRDS, "List 5 rules"), asked(LAW, "Say why"), asked(LAW, "List 7 rules")]

    found = groups(tmp_path, rows)

    assert [prefix_of(group) for group in found] == [1, 2, 1, 1]
    assert found[0] == found[3] != found[2]


def test_a_short_system_prompt_makes_no_prefix(tmp_path: Path) -> None:
    """Such rows and plain prompts have the groups of their wording."""
    assert groups(tmp_path, [asked("Be brief.", "List 3 rules"), {"prompt": "List 4 rules"}]) == [1, 1]


def test_the_system_prompt_of_the_run_is_a_prefix_too(tmp_path: Path) -> None:
    """A long `--system` is shared by all rows without one of their own."""
    rows = [{"prompt": "Why?"}, asked(BIRDS, "Why?"), {"prompt": "Who?"}]

    assert [prefix_of(group) for group in groups(tmp_path, rows, system=LAW)] == [1, 2, 1]


@pytest.mark.parametrize("cut", [1, LONG // 2, LONG - 1])
def test_leading_messages_count_together(cut: int) -> None:
    """Examples after a short system prompt make a prefix as soon as they are long enough together."""
    prefixes = Prefixes()
    lead = ["s" * cut, "u" * (LONG - cut)]

    assert prefixes.number(turns(*lead, "one answer", "asked")) == 1
    assert prefixes.number(turns(*lead, "another answer", "asked as well")) == 1
    assert prefixes.number(turns("s" * cut, "v" * (LONG - cut), "one answer", "asked")) == 2


def test_the_last_message_never_counts() -> None:
    """What is asked is no prefix, however long it is."""
    assert Prefixes().number(turns("short", "long " * LONG)) == 0
    assert Prefixes().number([]) == 0


def test_prefixes_beyond_the_cap_count_as_none() -> None:
    """Known ones stay known; memory doesn't grow with conversations that share nothing."""
    prefixes = Prefixes()
    numbers = [prefixes.number(turns(f"{number} " * LONG, "asked")) for number in range(MAX_PREFIXES + 2)]

    assert numbers == [*range(1, MAX_PREFIXES + 1), 0, 0]
    assert prefixes.number(turns("5 " * LONG, "asked")) == 6


def test_half_characters_are_text_too() -> None:
    """A lone surrogate, which JSON allows, breaks nothing."""
    assert Prefixes().number(turns("\ud800" * LONG, "asked")) == 1


@given(st.integers(0, MAX_PREFIXES), st.integers(0, WORDINGS - 1))
def test_a_group_gives_its_prefix_back(prefix: int, wording: int) -> None:
    """Prefix and wording fit in one number, which is that of the wording alone where there is no prefix."""
    group = group_of(prefix, wording)

    assert prefix_of(group) == prefix
    assert (group >= 0) == (prefix == 0)
    assert group_of(prefix, (wording + 1) % WORDINGS) != group
