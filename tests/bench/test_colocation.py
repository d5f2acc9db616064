"""Nodes alone and together: what is measured, what follows from it, and what runs learn of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.colocation import SUITE, ColocationOptions
from tokenmill.bench.neighbours import OTHER_HOST, SAME_DEVICE, SAME_HOST, Neighbours, Pair, neighbours_of
from tokenmill.bench.side_by_side import requests_of, side_by_side
from tokenmill.bench.table import Row, rows_of
from tokenmill.cli.bench import command
from tokenmill.cli.bench_options import options_of
from tokenmill.cluster import Node
from tokenmill.driver.options import Settings
from tokenmill.driver.verdicts import VERDICTS, Group, keep, read_verdicts, stored_of
from tokenmill.errors import TokenmillError
from tokenmill.schedule.trial import Verdict
from tokenmill.testing import Behaviour, FaultServer
from tokenmill.workload import Spec

PAIR = "a + b"
TOKENS = 1000
#: A little noise, the same in all cells of a repeat, and some of each cell's own.
WOBBLE = (1.0, 1.1, 0.9, 1.05, 0.97)
SCRIPT = 'slots = 16\nper_token = 0.0005\nanswer = "one two three four"\n'


def neighbours(place: str = SAME_DEVICE, **known: Any) -> Neighbours:
    groups = (Group(nodes=(0, 1), addresses=("x", "y"), host="h", device="cpu", digest="d"),)
    return Neighbours(
        names=("a", "b"),
        pairs=(Pair(0, 1, place, "declared"),),
        resolved=("10.0.0.1", "10.0.0.2"),
        groups=groups if place == SAME_DEVICE else (),
        **known,
    )


def chosen(found: Neighbours, folder: Path, **more: Any) -> ColocationOptions:
    return ColocationOptions(found=found, runs_dir=str(folder), batch="8", **more)


def measured(options: ColocationOptions, paces: Mapping[tuple[str, int], float], repeats: int = 5) -> list[Row]:
    """Rows of planted readings; `paces` are tokens/s by nodes and requests in flight."""
    cells = SUITE.cells(options)
    readings = []
    for cell in cells:
        pace = paces[str(cell.factors["nodes"]), int(cell.factors["in flight"])]
        for repeat in range(repeats):
            own = 1 + 0.01 * ((repeat * 3 + len(cell.key)) % 5 - 2)
            seconds = TOKENS / (pace * WOBBLE[repeat] * own)
            readings.append(
                Reading(
                    cell=cell.key,
                    repeat=repeat,
                    seconds=seconds,
                    requests=9,
                    answered=9,
                    output_tokens=TOKENS,
                    digest="x",
                )
            )
    return rows_of(cells, readings, SUITE.unit)


def told(options: ColocationOptions, paces: Mapping[tuple[str, int], float], repeats: int = 5) -> list[str]:
    return SUITE.findings(options, measured(options, paces, repeats))


CROWDED = {("a", 8): 100.0, ("b", 8): 104.0, (PAIR, 16): 80.0, ("a", 16): 110.0}
ROOMY = {("a", 8): 100.0, ("b", 8): 104.0, (PAIR, 16): 190.0, ("a", 16): 102.0}
NARROW = ROOMY | {("a", 16): 195.0}
EVEN = CROWDED | {(PAIR, 16): 104.0}


def test_nodes_are_measured_alone_together_and_alone_with_as_many_in_flight(tmp_path: Path) -> None:
    """The first node alone is the baseline; only where a device may be shared it is measured with all the requests."""
    factors = [list(cell.factors.values()) for cell in SUITE.cells(chosen(neighbours(), tmp_path))]
    assert factors == [["a", "", 8], ["b", "", 8], [PAIR, SAME_DEVICE, 16], ["a", "", 16]]
    apart = SUITE.cells(chosen(neighbours(OTHER_HOST), tmp_path))
    assert [cell.factors["in flight"] for cell in apart] == [8, 8, 16]
    assert [cell.is_baseline for cell in apart] == [True, False, False]
    assert [cell.workers for cell in apart] == [1, 1, 2]


def test_of_three_nodes_every_pair_and_all_are_measured(tmp_path: Path) -> None:
    """Pairs that are nearest to each other come first; all three are in several places."""
    pairs = (Pair(0, 1, OTHER_HOST, ""), Pair(0, 2, SAME_HOST, ""), Pair(1, 2, OTHER_HOST, ""))
    found = Neighbours(names=("a", "b", "c"), pairs=pairs, resolved=("x", "y", "x"))
    cells = SUITE.cells(chosen(found, tmp_path))
    assert [(cell.factors["nodes"], cell.factors["place"]) for cell in cells[3:]] == [
        ("a + c", SAME_HOST),
        ("a + b", OTHER_HOST),
        ("b + c", OTHER_HOST),
        ("a + b + c", "several places"),
    ]


def test_nodes_that_are_slower_together_are_not_used_together(tmp_path: Path) -> None:
    """The comparison is with the best of them alone, in pairs, and a rule by addresses is told to be wrong."""
    first, share, more, rule = told(chosen(neighbours(), tmp_path), CROWDED)
    assert first.startswith("batch 8, a + b (same device): together 0.77 (95 % interval 0.7")
    assert first.endswith("n = 5 pairs) of the best alone, b: use one")
    assert "0.39 of the sum of them alone; declared" in share
    assert "a alone with 16 in flight: 1.3" in more
    assert rule.endswith("counts 2 machines: use all, unlike what was measured")


def test_what_more_requests_bring_is_told_from_what_another_node_brings(tmp_path: Path) -> None:
    """A node that does as much with all the requests as both together makes the other one needless."""
    options = chosen(neighbours(), tmp_path)
    assert told(options, ROOMY)[0].endswith("of the best alone, b: use all")
    assert told(options, ROOMY)[2].endswith("of them together: it is the other nodes that help")
    assert told(options, NARROW)[2].endswith("not shown to need another node, more requests in flight do as well")


def test_without_a_gain_one_node_is_used_and_with_few_pairs_nothing_follows(tmp_path: Path) -> None:
    """An interval that includes 1 shows no gain; fewer than five pairs show nothing."""
    options = chosen(neighbours(), tmp_path)
    assert told(options, EVEN)[0].endswith(": use one, as no gain was shown")
    assert told(options, CROWDED, repeats=3)[0].endswith("nothing follows, a claim needs 5 pairs, there are 3 pairs")
    assert SUITE.conclude(options, measured(options, EVEN)) == []
    assert SUITE.conclude(options, measured(options, CROWDED, repeats=3)) == []


def test_a_cell_that_failed_is_not_compared(tmp_path: Path) -> None:
    """The finding says what failed instead of a figure."""
    options = chosen(neighbours(), tmp_path)
    cells = SUITE.cells(options)
    readings = [
        Reading(cell=cell.key, repeat=0, requests=9, answered=9, seconds=1.0, output_tokens=9) for cell in cells
    ]
    readings[2] = Reading(cell=cells[2].key, repeat=0, fault="node b: no connection")
    (said,) = SUITE.findings(options, rows_of(cells, readings, SUITE.unit))
    assert said == "batch 8, a + b (same device): not compared: node b: no connection"


def test_a_clear_verdict_is_kept_for_runs_and_compared_with_the_next(tmp_path: Path) -> None:
    """It holds for runs with that many slots; a later sweep says whether it bears it out."""
    options = chosen(neighbours(), tmp_path)
    (line,) = SUITE.conclude(options, measured(options, CROWDED))
    assert line == f"verdict kept in {tmp_path / VERDICTS} for runs with --slots 8: use one"
    (kept,) = read_verdicts(tmp_path)
    assert (kept.use, kept.slots, kept.digest) == (("y",), 8, "d")
    assert kept.low < kept.high < 0

    later = chosen(neighbours(kept=(kept,)), tmp_path)
    assert told(later, CROWDED)[4].endswith(f"the verdict of {kept.date} says: use one, which this bears out")
    assert told(later, ROOMY)[4].endswith("says: use one, which this contradicts")
    assert told(later, CROWDED, repeats=1)[4].endswith("says: use one")
    other = chosen(neighbours(kept=(replace(kept, slots=1),)), tmp_path)
    assert "was measured with --slots 1, and says nothing of this" in told(other, CROWDED)[4]


@pytest.mark.parametrize("more", [{"no_store": True}, {"divide": True, "threads": 2}])
def test_what_no_run_can_use_or_nobody_wants_is_not_kept(tmp_path: Path, more: dict[str, Any]) -> None:
    """With --no-store, or with threads divided as no run divides them, no verdict is written."""
    options = chosen(neighbours(), tmp_path, **more)
    SUITE.conclude(options, measured(options, CROWDED))
    assert read_verdicts(tmp_path) == ()


def test_places_come_from_evidence_and_not_from_addresses(tmp_path: Path) -> None:
    """One host by two addresses is one, two devices of a host are two, and hosts declared apart are apart."""
    with FaultServer(Behaviour(), Behaviour()) as servers:
        ports = [url.rpartition(":")[2] for url in servers.urls]
        alias = seen(node("a", f"http://127.0.0.1:{ports[0]}"), node("b", f"http://127.0.0.2:{ports[1]}"))
        devices = seen(
            node("a", servers.urls[0], host="box", device="gpu0"), node("b", servers.urls[1], host="box", device="gpu1")
        )
        apart = seen(node("a", servers.urls[0], host="box"), node("b", servers.urls[1], host="other"))
    assert (alias.place_of((0, 1)), alias.addresses((0, 1))) == (SAME_DEVICE, 2)
    assert (devices.place_of((0, 1)), devices.addresses((0, 1))) == (SAME_HOST, 1)
    assert (apart.place_of((0, 1)), apart.addresses((0, 1))) == (OTHER_HOST, 1)
    assert "gpu0 (declared) and gpu1 (declared)" in devices.why((0, 1))
    assert alias.group((0, 1)) is not None
    assert devices.group((0, 1)) is None


def node(name: str, url: str, **known: Any) -> Node:
    return Node(name=name, engine="openai", target=url, **known)


def seen(*nodes: Node) -> Neighbours:
    return neighbours_of(nodes, "d", (), threads=None, versions={})


def script(folder: Path, text: str = SCRIPT) -> str:
    path = folder / "server.toml"
    path.write_text(text)
    return f"scripted:{path}"


def played(folder: Path, nodes: int, text: str = SCRIPT) -> Reading:
    target = script(folder, text).partition(":")[2]
    there = [Node(name=f"n{number}", engine="scripted", target=target) for number in range(nodes)]
    spec = Spec(source="synthetic:rows=20,output=4,prompt=3,seed=1")
    return side_by_side(Cell(group="", factors={}), there, spec, Settings(slots=2))


def test_one_node_and_two_do_the_same_work(tmp_path: Path) -> None:
    """Every request is answered once, the warm-up isn't counted, and what was in flight is seen."""
    one, two = played(tmp_path, 1), played(tmp_path, 2)
    for reading in (one, two):
        assert reading.is_whole
        assert (reading.requests, reading.output_tokens, len(reading.latencies)) == (20, 80, 20)
        assert reading.loading > 0
        assert reading.peak_rss
    assert one.digest == two.digest
    assert one.overlap is not None
    assert two.overlap is not None
    assert two.overlap > one.overlap > 1.1


def test_a_request_that_fails_spoils_the_reading(tmp_path: Path) -> None:
    """It isn't tried again, so nothing is compared with it; the node and its reason are kept."""
    failing = SCRIPT + '[[rule]]\nmatch = "The"\nfail = "transient"\nmessage = "no luck"\n'
    prompts = [
        request.prompt or "" for request in requests_of(Spec(source="synthetic:rows=20,output=4,prompt=3,seed=1"))
    ]
    hit = sum("The" in prompt for prompt in prompts)
    reading = played(tmp_path, 1, failing)
    assert not reading.is_whole
    assert reading.failed == {"transient": hit}
    assert reading.notes == ("n0: no luck",)


def test_a_node_that_fails_to_warm_up_is_a_fault(tmp_path: Path) -> None:
    """It is told with its reason, and the sweep goes on."""
    reading = played(
        tmp_path, 1, SCRIPT + '[[rule]]\nmatch = "before we begin"\nfail = "transient"\nmessage = "cold"\n'
    )
    assert reading.fault == "a node failed before anything was measured: cold"


def bench(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    asked = [
        "colocation",
        "--bench-dir",
        str(folder / "bench"),
        "--runs-dir",
        str(folder / "runs"),
        "--quiet",
        "--json",
    ]
    done = CliRunner().invoke(command, [*asked, *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout)


def test_the_command_measures_two_nodes_and_keeps_what_it_found_of_them(tmp_path: Path) -> None:
    """What was seen of the nodes is part of the sweep; one reading decides nothing, so no verdict is kept."""
    where = script(tmp_path)
    code, told = bench(tmp_path, "--node", where, "--node", where, "--limit", "4", "--repeats", "1", "--batch", "1")
    assert code == 0
    results = told["results"]
    assert results["complete"]
    assert [row["cell"]["factors"]["nodes"] for row in results["rows"]] == [
        "scripted-0",
        "scripted-1",
        "scripted-0 + scripted-1",
        "scripted-0",
    ]
    assert {row["success"]["value"] for row in results["rows"]} == {1.0}
    assert results["plan"]["options"]["found"]["pairs"][0]["place"] == SAME_DEVICE
    assert "a rule by addresses counts 1 machine: use one" in results["findings"][3]
    assert not (tmp_path / "runs" / VERDICTS).exists()


def test_a_verdict_that_runs_know_is_told_of(tmp_path: Path) -> None:
    """The command looks where runs do."""
    where = script(tmp_path)
    options = ColocationOptions(node=(where, where), runs_dir=str(tmp_path / "runs"), batch="1")
    (group,) = SUITE.settled(options, tmp_path).found.groups
    verdict = Verdict(nodes=(0, 1), together=2.0, alone=1.0, low=0.5, high=1.5)
    keep(tmp_path / "runs", [stored_of(replace(group, slots=1), verdict, {})])
    _, told = bench(tmp_path, "--node", where, "--node", where, "--limit", "2", "--repeats", "1", "--batch", "1")
    assert told["results"]["findings"][4].endswith("says: use all")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--node", "{node}"], "one node has none to be measured with"),
        (["--node", "{node}", "--node", "{node}", "--divide"], "--divide shares out the threads"),
        (["--node", "{node}", "--node", "{node}", "--divide", "--threads", "2"], "--divide is for local nodes"),
        (["--node", "{node}", "--node", "{node}", "--batch", "0"], "'0' is no whole number from 1"),
        (["--node", "{node}", "--node", "{node}", "--model", "x"], "no --node is one"),
        (["--node", "{node}", "--node", "{node}", "--source", "missing.txt"], "missing.txt"),
        (["--node", "openai:http://127.0.0.1:9", "--node", "{node}"], "doesn't answer"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_there_is_a_sweep(
    tmp_path: Path, words: Sequence[str], fault: str
) -> None:
    """The message names the option, and no folder is left."""
    with pytest.raises(TokenmillError, match=fault):
        bench(tmp_path, *(word.format(node=script(tmp_path)) for word in words))
    assert not (tmp_path / "bench").exists()


def test_what_is_found_is_no_option() -> None:
    """Only what a user may choose is an option of the command."""
    names = [option.name for option in options_of(ColocationOptions)]
    assert "found" not in names
    assert "batch" in names
