"""The inventory's text: what is read, what is refused, and that edits keep what the user wrote."""

from __future__ import annotations

import contextlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plan.inventories import FLEET, KINDS
from tokenmill.cluster import Node
from tokenmill.errors import InputFaults, UsageError
from tokenmill.plan.edit import with_entries, without
from tokenmill.plan.inventory import Entry, checked, is_name, read

CANARY = "sk-canary-4f1d"


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(InputFaults) as caught:
        read(text, "nodes.toml", KINDS)
    return caught.value.faults


def table(**fields: object) -> str:
    """One node as TOML; texts are quoted, everything else is written as it is."""
    said = {"name": '"a"', "url": '"http://h:1"'} | fields
    return "[[node]]\n" + "".join(f"{name} = {value}\n" for name, value in said.items() if value is not None)


def test_a_node_of_the_inventory_is_a_node_of_a_run() -> None:
    """Names, kinds, hosts, devices, priorities and keys of the file reach the node."""
    nodes = [entry.node for entry in read(FLEET, "nodes.toml", KINDS)]

    assert nodes == [
        Node(name="gpu-a", engine="http", target="//10.0.0.5:11434", device="gpu:0"),
        Node(
            name="gpu-b",
            engine="ollama",
            target="http://10.0.0.6:11434",
            host="box-6",
            device="gpu:0,gpu:1",
            priority=1,
        ),
        Node(name="hosted", engine="https", target="//api.example.org/v1", key="env:EXAMPLE_KEY", model="large"),
    ]


def test_an_engine_of_this_machine_is_a_node_too() -> None:
    """A url may be KIND:TARGET of an engine that is no server."""
    (entry,) = read(table(url='"local:demo"'), "nodes.toml", KINDS)

    assert entry.server is None
    assert entry.node == Node(name="a", engine="local", target="demo")


def test_an_empty_inventory_has_no_nodes() -> None:
    """A file without nodes, or with comments alone, is fine."""
    assert read("", "nodes.toml", KINDS) == ()
    assert read("# later\n", "nodes.toml", KINDS) == ()


def test_all_faults_are_told_together() -> None:
    """Each fault names the node and the way out, and one doesn't hide the next."""
    found = faults(
        table(urll='"x"')
        + table(name='"b"', url='"ftp://h"', priority="1.5")
        + table(name='"all"', url='"http://h:2"', device='["gpu:0,gpu:1"]')
        + '[[node]]\nname = "d"\n'
        + "[other]\n"
    )

    assert found == (
        "'other' is not known here; nodes are [[node]] tables",
        "node 1 ('a'): field 'urll' is not known; did you mean 'url'? "
        "known: name, url, engine, host, device, priority, key, model, proxy",
        "node 2 ('b'): url: 'ftp://h' is no URL of a server; write http://HOST:PORT",
        "node 2 ('b'): priority must be a whole number from 0 (first) to 1000",
        "node 3 ('all'): name 'all' can't be used; use letters, digits, '.', '_' and '-', "
        "starting with a letter or digit, and not 'all'",
        "node 3 ('all'): device must be a text such as 'gpu:0', without a comma, or a list of them",
        "node 4 ('d'): url is missing; give http://HOST:PORT",
    )


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"engine": '"olama"'}, "engine 'olama' is not known; known: local, ollama, openai, scripted; left out"),
        ({"engine": "3"}, "engine must be a text of printable letters"),
        ({"host": '""'}, "host must be a text of printable letters"),
        ({"model": '"a\\u202eb"'}, "model must be a text of printable letters"),
        ({"url": '"ollama:http://h:1"'}, "the url begins with 'ollama'; give the URL alone, and engine = 'ollama'"),
        ({"url": '"http://h:99999"'}, "is no valid URL"),
        ({"url": '"http://h:1 2"'}, "holds a space or a control character"),
        ({"url": '"http://"'}, "names no host"),
        ({"url": '"http:h"'}, "is no URL of a server"),
        ({"priority": "true"}, "priority must be a whole number"),
        ({"priority": "-1"}, "priority must be a whole number"),
        ({"device": "0"}, "device must be a text"),
        ({"name": '"a b"'}, "name 'a b' can't be used"),
        ({"name": None}, "node 1: name is missing"),
    ],
)
def test_a_bad_value_is_refused(fields: dict[str, object], part: str) -> None:
    """A value that can't be used is one fault with its place."""
    (fault,) = faults(table(**fields))

    assert fault.startswith("node 1")
    assert part in fault


@pytest.mark.parametrize(
    "fields",
    [
        {"key": f'"{CANARY}"'},
        {"key": f'["{CANARY}"]'},
        {"key": f'"env:{CANARY}"'},
        {"url": f'"http://user:{CANARY}@h:1"'},
        {"url": f'"http://{CANARY}@h:99999"'},
        {"url": f'"http://h:1/?key={CANARY}"'},
        {"url": f'"http://h:1/#{CANARY}"'},
        {"api_key": f'"{CANARY}"'},
    ],
)
def test_a_secret_is_refused_and_not_repeated(fields: dict[str, object]) -> None:
    """A key or a login in the file is a fault, whose message doesn't hold it."""
    found = faults(table(**fields))

    assert len(found) == 1
    assert CANARY not in found[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://h:1", "http://H:1/"),
        ("http://h", "http://h:80"),
        ("http://[::1]:5", "http://[0:0::1]:5"),
        ("http://[::ffff:10.0.0.1]:5", "http://10.0.0.1:5"),
        ("https://h.example.:443/v1", "https://h.example/v1/"),
    ],
)
def test_a_server_is_listed_once(first: str, second: str) -> None:
    """Two spellings of one URL are found to be the same server, and a name is used once."""
    assert len(read(table(url=f'"{first}"') + table(name='"b"', url='"http://other:1"'), "n", KINDS)) == 2
    (fault,) = faults(table(url=f'"{first}"') + table(name='"b"', url=f'"{second}"'))
    assert fault.endswith("is node 1 ('a') already; list a server once")
    (fault,) = faults(table() + table(url='"http://other:1"'))
    assert fault == "node 2 ('a'): the name is that of node 1 ('a') already; give it another"


def test_broken_toml_is_told_with_its_line() -> None:
    """What isn't TOML is one fault with its line."""
    (fault,) = faults("[[node]]\nname = \n")
    assert "line 2" in fault
    (fault,) = faults("node = 3\n")
    assert "write [[node]]" in fault


def test_a_node_is_added_at_the_end() -> None:
    """Adding leaves every letter before it alone."""
    entry = Entry(name="new", url="http://10.0.0.7:8000", engine="openai", device=("gpu:0",), priority=2)
    text = with_entries(FLEET, [entry])

    assert text.startswith(FLEET)
    assert text[len(FLEET) :].splitlines() == [
        "",
        "[[node]]",
        'name = "new"',
        'url = "http://10.0.0.7:8000"',
        'engine = "openai"',
        'device = "gpu:0"',
        "priority = 2",
    ]
    assert read(text, "n", KINDS)[-1] == entry


def test_a_node_is_removed_with_its_own_comments() -> None:
    """Comments above a node go with it, and those of the other nodes and of the file stay."""
    text = without(FLEET, {"gpu-a"})
    assert text == FLEET.replace(FLEET[FLEET.index("[[node]]") : FLEET.index("# The big")], "")
    text = without(FLEET, {"gpu-b"})
    assert "big machine" not in text
    assert text.startswith("# Our fleet. Ask Ada before adding to it.\n\n[[node]]\n")
    assert [entry.name for entry in read(text, "n", KINDS)] == ["gpu-a", "hosted"]
    apart = FLEET + "# touches the last\n\n# speaks of something else\n"
    assert without(apart, {"hosted"}).endswith("priority = 1\n\n# speaks of something else\n")


@pytest.mark.parametrize(
    "text",
    [
        'node = [{name = "a", url = "http://h:1"}]\n',
        '[[node]]\nname = "a"\nurl = "http://h:1"\nmodel = """\n[[node]]\n"""\n',
    ],
)
def test_an_edit_that_might_harm_is_refused(text: str) -> None:
    """Nodes that don't begin on lines of their own are left to their writer."""
    with pytest.raises(UsageError, match="by hand"):
        without(text, {"a"})
    with pytest.raises(UsageError, match="by hand"):
        with_entries(text, [Entry(name="b", url="http://h:2")])


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.isprintable)
ENTRIES = st.builds(
    Entry,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True).filter(is_name),
    url=st.integers(1, 65535).map("http://h:{}".format).filter(lambda url: not url.endswith(":80")),
    engine=st.sampled_from([None, "ollama", "openai"]),
    host=st.none() | TEXTS,
    device=st.lists(TEXTS.filter(lambda text: "," not in text), max_size=3).map(tuple),
    priority=st.integers(0, 1000),
    key=st.sampled_from([None, "env:A_KEY", "file:/etc/key"]),
    model=st.none() | TEXTS,
)
INVENTORIES = st.lists(ENTRIES, max_size=5, unique_by=(lambda each: each.name, lambda each: each.url))


@given(INVENTORIES, st.data())
def test_what_is_written_is_read(entries: list[Entry], data: st.DataObject) -> None:
    """Any nodes come back as they were added, and removing some leaves the others."""
    text = with_entries("# top\n", entries)
    assert read(text, "n", KINDS) == tuple(entries)
    gone = data.draw(st.sets(st.sampled_from([entry.name for entry in entries]))) if entries else set()
    left = without(text, gone)
    assert read(left, "n", KINDS) == tuple(entry for entry in entries if entry.name not in gone)
    assert left.startswith("# top\n")


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is an inventory or a list of faults."""
    with contextlib.suppress(InputFaults):
        assert isinstance(read(text, "n", KINDS), tuple)


@given(st.dictionaries(st.sampled_from(["name", "url", "key", "device", "priority", "host"]), st.none() | TEXTS))
def test_no_values_break_the_reader(values: dict[str, str | None]) -> None:
    """Any values in a node make an entry or faults that name the node."""
    text = "[[node]]\n" + "".join(
        f"{name} = '''{value}'''\n" for name, value in values.items() if value and "'" not in value
    )
    found: list[str] = []
    (table,) = tomllib.loads(text)["node"]
    assert checked([table], KINDS, found) or found
    assert all(fault.startswith("node 1") for fault in found)
