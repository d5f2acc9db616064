"""Behaviours as files, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from tokenmill.errors import UsageError
from tokenmill.testing import AnyFault, Behaviour, Reset, Status
from tokenmill.testing.behaviour import Script, changed, make_script, read_script

FILE = """
slots = 2
rate = 20.0
[device.gpu0]
serial = 0.5
[[fault]]
kind = "status"
status = 429
retry_after = "date+5"
share = 0.1
[[server]]
device = "gpu0"
[[server]]
name = "slow"
device = "gpu0"
rate = 5.0
"""


def read(tmp_path: Path, text: str) -> Script:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return read_script(path)


def test_a_file_describes_several_servers(tmp_path: Path) -> None:
    """Each server takes from the top of the file what it doesn't say itself."""
    script = read(tmp_path, FILE)
    assert [(server.name, server.slots, server.rate) for server in script.server] == [("a", 2, 20.0), ("slow", 2, 5.0)]
    assert script.device["gpu0"].serial == 0.5
    assert script.server[0].fault == (Status(status=429, retry_after="date+5", share=0.1),)


def test_a_file_without_tables_is_one_server(tmp_path: Path) -> None:
    """A file of one server needs no table."""
    assert read(tmp_path, "slots = 1").server == (Behaviour(slots=1),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slot = 1", "slot"),
        ('slots = "two"', "$.server[0].slots"),
        ("slots = 0", "slots is 0; give at least 1"),
        ("rate = -1.0", "rate is -1.0"),
        ('[[fault]]\nkind = "resett"', "$.server[0].fault[0]"),
        ('[[fault]]\nkind = "reset"\nat = "tail"', "fault[0].at"),
        ('[[fault]]\nkind = "reset"\nmatch = "("', "fault[0].match is '('"),
        ('[[fault]]\nkind = "reset"\nshare = 2.0', "fault[0].share is 2.0"),
        ('[[fault]]\nkind = "trickle"\ngap = 0.0', "fault[0].gap is 0.0"),
        ("[[change]]\nat = 1.0\nset = {port = 1}", "change[0].set: port can't be changed"),
        ("[[change]]\nat = 1.0\nset = {slotz = 1}", "no field 'slotz'"),
        ("[[change]]\nset = {slots = 1}", "change[0] has neither at nor request"),
        ("server = 1", "[[server]]"),
        ('[[server]]\nname = "x"\n[[server]]\nname = "x"', "two servers have one name"),
        ('[[server]]\ndevice = "gpu1"', "device 'gpu1'"),
        ("[curve]\nserial = -0.5", "serial is -0.5"),
        ("slots = ", "script"),
    ],
)
def test_a_fault_of_the_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    """What can't be meant is refused with the field and the place."""
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_a_change_is_checked_as_a_whole() -> None:
    """Fields changed at run time pass the same checks, and the rest stays."""
    before = Behaviour(slots=3, fault=(Reset(),))
    assert changed(before, {"slots": 1}) == Behaviour(slots=1, fault=(Reset(),))
    with pytest.raises(UsageError, match="slots is 0"):
        changed(before, {"slots": 0})


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """A file that isn't there is named."""
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_script(tmp_path / "none.toml")


def test_servers_without_a_name_get_one() -> None:
    """Servers are told apart by letters."""
    assert [server.name for server in make_script({"server": [{}] * 28}, "x").server][-3:] == ["z", "a1", "b1"]


def test_the_documentation_names_every_fault() -> None:
    """docs/testing.md has a row for each kind, and its example is a valid file."""
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert [server.name for server in make_script(tomllib.loads(example), "docs").server] == ["a", "b"]
    kinds = [str(kind.__struct_config__.tag) for kind in get_args(AnyFault)]
    assert len(kinds) == 30
    assert [kind for kind in kinds if f"`{kind}`" not in text] == []
