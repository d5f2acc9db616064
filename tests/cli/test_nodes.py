"""`tokenmill nodes`: the inventory by commands, and what real server processes are found to be."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.desk import Desk, Ended
from tokenmill.driver.ask_nodes import Found
from tokenmill.plan.identity import Device, Evidence, Host, Identity
from tokenmill.testing import Behaviour, FaultServer, Silent, Status

CANARY = "sk-canary-90b1"
NOBODY = "http://127.0.0.1:1"
FILE = "nodes.toml"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with an inventory of its own."""
    desk = Desk(tmp_path)
    desk.environment |= {"TOKENMILL_NODES": str(tmp_path / FILE), "NOT_THE_KEY": "wrong"}
    return desk


@pytest.fixture(scope="module")
def servers() -> Iterator[FaultServer]:
    """Three servers of one machine: Ollama with 3 slots, an OpenAI one with 1, and one with two models and a key."""
    with FaultServer(
        Behaviour(slots=3, rate=150, first_token=0.02, apis=("ollama",)),
        Behaviour(slots=1, rate=150, first_token=0.02, apis=("openai",)),
        Behaviour(models=("one:latest", "two:latest"), key=CANARY, rate=150),
    ) as running:
        yield running


def nodes(desk: Desk, *words: str) -> Ended:
    return desk.call("nodes", *words)


def done(ended: Ended) -> str:
    assert ended.code == 0, ended
    return ended.out


def report(ended: Ended, code: int = 0) -> Any:
    assert ended.code == code, ended
    return json.loads(ended.out)


def refused(ended: Ended, *parts: str) -> None:
    assert (ended.code, ended.out) == (2, ""), ended
    for part in parts:
        assert part in ended.err
    assert CANARY not in ended.err


def test_nodes_are_added_listed_and_removed(desk: Desk) -> None:
    """The file has what was said, is readable by its owner alone, and keeps its comments."""
    desk.write(FILE, "# ours\n")
    done(nodes(desk, "add", "a", "http://10.0.0.5:11434", "--device", "gpu:0", "--device", "gpu:1", "--priority", "1"))
    done(
        nodes(desk, "add", "b", "openai:https://api.example.org/v1/", "--key", "env:KEY", "--model", "m", "--host", "h")
    )

    assert desk.read(FILE).startswith("# ours\n\n[[node]]\n")
    assert stat.S_IMODE((desk.folder / FILE).stat().st_mode) == 0o600
    listed = report(nodes(desk, "list", "--json"))
    assert listed == [
        {
            "name": "a",
            "url": "http://10.0.0.5:11434",
            "engine": None,
            "host": None,
            "device": ["gpu:0", "gpu:1"],
            "priority": 1,
            "key": None,
            "model": None,
            "proxy": None,
        },
        {
            "name": "b",
            "url": "https://api.example.org/v1",
            "engine": "openai",
            "host": "h",
            "device": [],
            "priority": 0,
            "key": "env:KEY",
            "model": "m",
            "proxy": None,
        },
    ]
    assert done(nodes(desk, "list")).splitlines()[0] == "a  http://10.0.0.5:11434  device gpu:0, gpu:1  priority 1"
    assert report(nodes(desk, "remove", "a", "--json")) == listed[:1]
    assert report(nodes(desk, "list", "--json")) == listed[1:]


def test_the_default_inventory_lies_in_the_configuration_folder(desk: Desk) -> None:
    """Without an option or a variable the user's own file is made, and a file that is named wins."""
    done(nodes(desk, "add", "named", NOBODY, "--nodes-file", "other.toml"))
    del desk.environment["TOKENMILL_NODES"]
    desk.environment |= {"XDG_CONFIG_HOME": str(desk.folder / "config"), "HOME": str(desk.folder)}
    done(nodes(desk, "add", "mine", NOBODY))

    assert "named" in desk.read("other.toml")
    assert [path.name for path in desk.folder.rglob("tokenmill/nodes.toml")] == ["nodes.toml"]
    assert "no nodes in" in nodes(desk, "list", "--nodes-file", "none.toml").err


def test_a_link_to_the_inventory_stays_a_link(desk: Desk) -> None:
    """A file that is kept elsewhere is changed there."""
    (desk.folder / FILE).symlink_to("kept.toml")
    done(nodes(desk, "add", "a", NOBODY))
    assert (desk.folder / FILE).is_symlink()
    assert '"a"' in desk.read("kept.toml")


def test_commands_at_once_lose_nothing(desk: Desk) -> None:
    """Every one of several processes that add a node at the same time has its node in the file."""
    started = [
        subprocess.Popen(
            desk.line("nodes", "add", f"n{number}", f"http://h:{number + 1}"),
            cwd=desk.folder,
            env=desk.environment,
            stdout=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    assert sorted(each["name"] for each in report(nodes(desk, "list", "--json"))) == ["n0", "n1", "n2", "n3"]


def test_all_faults_of_the_file_are_told(desk: Desk) -> None:
    """A file with faults is refused by every command, with all of them and without the secret in it."""
    text = f'[[node]]\nname = "a"\nurl = "h"\nkey = "{CANARY}"\n\n[[node]]\nname = "a"\nurl = "http://u:{CANARY}@h:1"\n'
    desk.write(FILE, text)
    for words in (["list"], ["add", "c", NOBODY], ["remove", "a"], ["check"], ["discover", "127.0.0.1:1"]):
        refused(
            nodes(desk, *words), f"{FILE}: 3 faults", "node 1 ('a'): url: 'h' is no URL", "holds a login", "env:NAME"
        )
    refused(desk.call("run", "ok.txt", "--node", "a"), "3 faults")
    assert desk.read(FILE) == text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("add", "a", "http://h:2"), "node 2 ('a'): the name is that of node 1 ('a') already"),
        (("add", "b", "http://H:1/"), "node 2 ('b'): http://h:1 is node 1 ('a') already"),
        (("add", "b", "http://h:2", "--key", CANARY), "key must say where the key is found"),
        (("add", "b", f"http://u:{CANARY}@h:2"), "the URL holds a login"),
        (("add", "b", "http://h:2", "--engine", "olama"), "engine 'olama' is not known"),
        (("add", "all", "http://h:2"), "name 'all' can't be used"),
        (("remove", "b"), "no node 'b' in"),
        (("import", "none.json"), "none.json: can't be read"),
        (("discover", "10.0.0.0/8"), "16777216 addresses, more than 256"),
        (("discover", "127.0.0.1", "--ports", "0"), "'0' is no port"),
        (("check", "b"), "node 'b': write KIND:TARGET"),
        (("check", "olama:http://h"), "did you mean 'ollama'"),
    ],
)
def test_what_can_not_be_done_is_refused(desk: Desk, words: tuple[str, ...], part: str) -> None:
    """A bad name, URL, key or place is one error with the way out, and the file stays as it is."""
    done(nodes(desk, "add", "a", "http://h:1"))
    before = desk.read(FILE)
    refused(nodes(desk, *words), part)
    assert desk.read(FILE) == before


def test_import_leaves_out_what_is_one_server(desk: Desk) -> None:
    """Of localhost, 127.0.0.1 and ::1 on one port the first is added, and the others are told."""
    urls = ("http://192.168.1.10:11434", "http://localhost:11434", "http://127.0.0.1:11434", "http://[::1]:11434")
    listed = [{"url": url, "name": f"server-{number}", "priority": number} for number, url in enumerate(urls)]
    desk.write("nodes.json", json.dumps({"nodes": listed}))
    ended = nodes(desk, "import", "nodes.json", "--json")

    assert [(each["name"], each["priority"]) for each in report(ended)] == [("server-0", 0), ("server-1", 1)]
    assert ended.err.splitlines() == [
        f"left out server-{number} ({urls[number]}): it is the server of server-1 (http://localhost:11434) once more"
        for number in (2, 3)
    ]
    refused(nodes(desk, "import", "nodes.json"), "already")


def test_two_names_of_one_server_are_warned_of(desk: Desk) -> None:
    """Adding a second address of this machine on one port is allowed, and told."""
    done(nodes(desk, "add", "a", "http://localhost:7"))
    ended = nodes(desk, "add", "b", "http://127.0.0.1:7")
    assert ended.code == 0
    assert ended.err.startswith("warning: one server of this machine under several names: a (http://localhost:7), b (")


def test_check_finds_out_what_nodes_are(desk: Desk, servers: FaultServer) -> None:
    """Kind, version, model, context, placement, slots and pace are measured; what is one server is found to be."""
    done(nodes(desk, "add", "native", servers.urls[0]))
    done(nodes(desk, "add", "again", servers.urls[0].replace("127.0.0.1", "localhost")))
    done(nodes(desk, "add", "plain", servers.urls[1], "--device", "gpu:1"))
    told = report(nodes(desk, "check", "--json"))
    native, again, plain = told["nodes"]

    assert (native["engine"], native["version"], native["model"]) == ("ollama", "0.12.6", "llama3.2:latest")
    assert (native["context"], native["placement"], native["fault"]) == (4096, "GPU", "")
    for each in told["nodes"]:  # the number itself is proven in tests/plan: here it depends on how busy the machine is
        assert each["slots_in_words"] in (f"{each['slots']}", f"{each['slots']}+")
        assert 1 <= each["slots"] <= 16
    assert plain["engine"] == "openai"
    assert all(each["tokens_per_second"] > 0 and each["round_trip"] > 0 for each in told["nodes"])
    assert native["same_server"] == again["same_server"] == ["again", "native"]
    (host,) = told["identity"]["hosts"]
    assert host["name"] == "localhost"
    assert host["evidence"][0]["sure"] == "certain"
    assert [device["name"] for device in host["devices"]] == ["gpu:1", "gpu"]


def test_a_node_that_fails_is_told_and_the_others_go_on(desk: Desk, servers: FaultServer) -> None:
    """A server that isn't there makes the exit code 3; the table has the others, and below it the reason."""
    done(nodes(desk, "add", "gone", NOBODY))
    ended = nodes(desk, "check", "gone", servers.urls[0], "--no-ramp")

    assert (ended.code, ended.err) == (3, "")
    assert "gone: connection refused" in ended.out
    assert "ollama" in ended.out
    assert all(len(line) <= 80 for line in ended.out.partition("host localhost")[0].splitlines())


def test_a_server_whose_engine_is_dead_is_a_fault(desk: Desk) -> None:
    """A server that lists its models and gives no token can't be used, however quickly it can be reached."""
    with FaultServer(Behaviour(fault=(Status(status=500),)), Behaviour(fault=(Silent(),))) as server:
        (dead,) = report(nodes(desk, "check", server.urls[0], "--json"), code=3)["nodes"]
        (mute,) = report(nodes(desk, "check", server.urls[1], "--timeout", "1", "--json"), code=3)["nodes"]
    assert "HTTP 500" in dead["fault"]
    assert (dead["models"], dead["slots"]) == (["llama3.2:latest"], None)
    assert mute["fault"] == "it was not done in 1 s; raise --timeout if it is slow"


def test_no_ramp_sends_no_request(desk: Desk, servers: FaultServer) -> None:
    """With --no-ramp a server is asked what it is, and for no text."""
    before = servers.state().asked
    (found,) = report(nodes(desk, "check", servers.urls[0], "--no-ramp", "--json"))["nodes"]
    assert servers.state().asked == before
    assert (found["slots"], found["slots_in_words"]) == (None, "n/a")


def test_a_narrow_terminal_gets_paragraphs(desk: Desk, servers: FaultServer) -> None:
    """Where a table would fold every word, each node is a paragraph of its facts."""
    desk.environment["COLUMNS"] = "40"
    lines = done(nodes(desk, "check", servers.urls[0], "--no-ramp")).splitlines()
    assert lines[:4] == [
        servers.urls[0].removeprefix("http://"),
        "  server     ollama 0.12.6",
        "  model      llama3.2:latest",
        "  context    4096",
    ]


def test_a_server_with_several_models_asks_for_one(desk: Desk, servers: FaultServer) -> None:
    """Without --model its models are listed and nothing is measured; the key reaches it and nothing else."""
    desk.write("key", CANARY)
    (desk.folder / "key").chmod(0o600)
    done(nodes(desk, "add", "two", servers.urls[2], "--key", f"file:{desk.folder / 'key'}"))
    ended = nodes(desk, "check", "two", "--json")
    (found,) = report(ended)["nodes"]
    assert (found["models"], found["fault"]) == (["one:latest", "two:latest"], "")
    assert "name one with --model" in found["note"]
    (found,) = report(nodes(desk, "check", "two", "--model", "two", "--most-slots", "2", "--json"))["nodes"]
    assert (found["model"], found["slots_in_words"]) == ("two:latest", "2+")
    assert CANARY not in ended.out + ended.err + desk.read(FILE)


@pytest.mark.parametrize(
    ("key", "part"),
    [("env:NOT_THE_KEY", "401"), ("env:NOT_SET", "NOT_SET, which is not set"), ("file:none", "none can't be read")],
)
def test_a_key_that_does_not_fit_is_a_fault_of_its_node(desk: Desk, servers: FaultServer, key: str, part: str) -> None:
    """A wrong or missing key is told of that node, without the key."""
    done(nodes(desk, "add", "locked", servers.urls[2], "--key", key))
    ended = nodes(desk, "check", "--json")
    (found,) = report(ended, code=3)["nodes"]
    assert part in found["fault"]
    assert "wrong" not in ended.out


def test_discover_finds_servers_where_it_may_look(desk: Desk, servers: FaultServer) -> None:
    """What speaks neither API, or needs a key, isn't found; --add keeps what is new under a name."""
    places = [url.removeprefix("http://") for url in (*servers.urls, NOBODY)]
    found = report(nodes(desk, "discover", *places, "--add", "--json"))

    names = [f"127.0.0.1-{place.rpartition(':')[2]}" for place in places]
    assert [(each["name"], each["engine"]) for each in found] == [(names[0], "ollama"), (names[1], "openai")]
    assert report(nodes(desk, "list", "--json")) == found
    assert report(nodes(desk, "discover", *places, "--add", "--json")) == []
    assert nodes(desk, "discover", "127.0.0.1:1").err == "no server found there\n"


def test_a_run_uses_names_of_the_inventory(desk: Desk, servers: FaultServer) -> None:
    """`--node NAME` and `--node all` are the servers of the inventory, also for a resume without its variable."""
    done(nodes(desk, "add", "native", servers.urls[0]))
    ended = desk.call(
        "run", "ok.txt", "--node", "native", "--model", "llama3.2", "-q", "--run-id", "a", "-o", "a.jsonl"
    )
    assert ended.code == 0, ended
    assert "on native" in done(desk.call("explain", "a", json.loads(desk.read("a.jsonl").splitlines()[0])["custom_id"]))
    done(desk.call("run", "ok.txt", "--node", "all", "-q", "--run-id", "b", "-o", "b.jsonl"))
    assert len(desk.read("b.jsonl").splitlines()) == 3
    del desk.environment["TOKENMILL_NODES"]
    done(desk.call("resume", "a", "-q"))
    refused(
        desk.call("run", "ok.txt", "--node", "other", "--nodes-file", FILE), "which has native", "nodes add NAME URL"
    )
    refused(desk.call("run", "ok.txt", "--node", "native", "--node", "all", "--nodes-file", FILE), "is named twice")
    refused(desk.call("run", "ok.txt", "--node", "all", "--nodes-file", "none"), "no nodes in")


def test_servers_need_the_http_library(desk: Desk) -> None:
    """Without the extra, check and discover say what to install."""
    done(nodes(desk, "add", "a", NOBODY))
    for words in (("check", "http://127.0.0.1:1"), ("discover", "127.0.0.1:1")):
        ended = desk.without("aiohttp", "nodes", *words)
        assert "pip install 'tokenmill[http]'" in ended.out + ended.err


def test_an_engine_of_this_machine_is_checked_too(desk: Desk) -> None:
    """A node that is no server says what it is without being started."""
    (found,) = report(nodes(desk, "check", "scripted:script.toml", "--json"))["nodes"]
    assert (found["model"], found["slots"], found["host"], found["device"]) == ("scripted", 2, "localhost", "cpu")


def test_the_manual_names_every_key() -> None:
    """docs/nodes.md has every key that `check --json` prints, and every command has a heading or an example."""
    manual = (Path(__file__).parents[2] / "docs" / "nodes.md").read_text(encoding="utf-8")
    for kind in (Found, Identity, Host, Device, Evidence):
        for key in kind.__struct_fields__:
            assert f"`{key}`" in manual, key
    for word in ("add", "remove", "import", "discover", "check"):
        assert re.search(rf"^## {word}|`{word}`", manual, re.MULTILINE), word


@pytest.mark.parametrize("words", ["", "add", "remove", "list", "import", "check", "discover"])
def test_help_shows_an_example(desk: Desk, words: str) -> None:
    """The help of every command has an example and fits 80 columns."""
    ended = nodes(desk, *words.split(), "--help")
    assert "Example" in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())
