"""What an extra is said to bring is enough: each command runs where nothing else is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.desk import SCRIPTED, Desk, Ended
from tokenmill.testing import Behaviour, FaultServer

ANSWER = """\
Positive 1: Take a left turn by the church and go on foot to the blue door.
Positive 2: By the church go left; after that walk until you reach the blue door.
Negative: Turn right at the school, then walk to the red gate.
"""
OWN = """\
name = "own"
[[stage]]
name = "said"
prompt = "Say it in other words: {{ instruction }}"
[[stage.check]]
use = "length"
options = { min_words = 2 }
"""
#: Makes every module of a distribution that isn't listed one that isn't installed.
ONLY = """
import json, sys

class Sieve:
    names = frozenset(json.loads(sys.argv.pop(1)))
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Sieve, sys.meta_path)
from tokenmill.cli import main
main()
"""


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """The distributions that come with `name[extras]`, itself included."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        found.add(each[0])
        for line in requires(each[0]) or ():
            needed = Requirement(line)
            marks = [{"extra": extra} for extra in each[1]] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(mark) for mark in marks):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return found


def with_only(desk: Desk, extras: str, *words: str | Path) -> Ended:
    """The command where nothing but tokenmill and what these extras bring is installed."""
    there = closure("tokenmill", frozenset(extras.split(",")) if extras else frozenset())
    missing = [
        module
        for module, owners in packages_distributions().items()
        if not any(canonicalize_name(owner) in there for owner in owners)
    ]
    assert ("torch" in missing) == ("local" not in extras)
    done = subprocess.run(
        [sys.executable, "-c", ONLY, json.dumps(missing), *map(str, words)],
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        text=True,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_the_core_plays_a_script_and_tells_of_it(desk: Desk) -> None:
    """Without any extra there are scripted runs, and every view of their records."""
    for words in (
        ("run", "ok.txt", *SCRIPTED, "--run-id", "a", "-o", "out.jsonl", "-q"),
        ("run", "ok.txt", *SCRIPTED, "--dry-run"),
        ("status", "a"),
        ("runs", "list"),
        ("explain", "a", "row-2"),
        ("nodes", "list"),
        ("--help",),
    ):
        ended = with_only(desk, "", *words)
        assert ended.code == 0, (words, ended.err)
    assert len((desk.folder / "out.jsonl").read_text().splitlines()) == 3


def test_servers_need_http_alone(desk: Desk) -> None:
    """With servers as nodes, the extra `http` is all there must be."""
    with FaultServer(Behaviour(), Behaviour()) as server:
        nodes = [word for url in server.urls for word in ("--node", f"openai:{url}")]
        ended = with_only(desk, "http", "run", "ok.txt", *nodes, "-q")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("extras", "missing"), [("", "tokenmill[http]"), ("local", "tokenmill[http]")], ids=["core", "local"]
)
def test_a_server_without_http_is_refused(desk: Desk, extras: str, missing: str) -> None:
    """One line says what to install, before anything is sent."""
    ended = with_only(desk, extras, "run", "ok.txt", "--node", "openai:http://127.0.0.1:9", "-q")
    assert ended.code == 2
    assert missing in ended.err
    assert len(ended.err.splitlines()) == 1


def test_the_bundled_model_needs_local_alone(desk: Desk) -> None:
    """The extra `local` runs a model, in this process's own workers too."""
    ended = with_only(desk, "local", "run", "ok.txt", "--model", "demo", "--max-tokens", "4", "-q")
    assert ended.code == 0, ended.err


def test_a_recipe_needs_validate_beside_its_nodes(desk: Desk) -> None:
    """The extra `validate` brings what the shipped recipes check with."""
    desk.write("script.toml", f"slots = 2\nanswer = {json.dumps(ANSWER)}\n")
    desk.write("rows.jsonl", '{"id": "a", "instruction": "Turn left at the church, then walk to the blue door."}\n')
    words = ("run", "rows.jsonl", *SCRIPTED, "--pipeline", "contrastive", "--embedding", "words", "-o", "d.jsonl", "-q")
    ended = with_only(desk, "validate", *words)
    assert ended.code == 0, ended.err


def test_what_a_recipe_lacks_is_told_before_anything_is_sent(desk: Desk) -> None:
    """A recipe whose checks need the extra `validate` is refused without it; one whose checks don't is played."""
    desk.write("rows.jsonl", '{"id": "a", "instruction": "Turn left at the church, then walk to the blue door."}\n')
    words = ("run", "rows.jsonl", *SCRIPTED, "-o", "d.jsonl", "-q", "--pipeline")
    for recipe in ("contrastive", "qa"):
        ended = with_only(desk, "", *words, recipe, "--embedding", "words")
        assert ended.code == 2
        assert 'pip install "tokenmill[validate]"' in ended.err
    assert desk.made_runs() == []
    desk.write("own.toml", OWN)
    ended = with_only(desk, "", *words, "own.toml")
    assert ended.code == 0, ended.err
    assert len(desk.read("d.jsonl").splitlines()) == 1


def test_a_run_without_templates_loads_none(desk: Desk) -> None:
    """Recipes, templates and their library are loaded by runs that have some, as every run pays for what it loads."""
    code = (
        "import sys; from tokenmill.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "print(code, [each for each in ('jinja2', 'tokenmill.driver.storyteller') if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "ok.txt", *SCRIPTED, "-q"],
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
