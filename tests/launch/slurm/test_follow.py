"""What whoever follows a job is told, from looks at it and from its log."""

from __future__ import annotations

from pathlib import Path

from driver.runs import run
from tokenmill.cli.slurm_job import logged_facts, settled, update
from tokenmill.cli.story_counts import StoryCounts
from tokenmill.driver.progress import Progress
from tokenmill.launch.slurm.commands import SlurmSilent
from tokenmill.launch.slurm.job import ENDS, Follower, Job, last_words
from tokenmill.launch.slurm.state import Element
from tokenmill.launch.spec import On
from tokenmill.pipeline import Parser, Recipe, Stage
from tokenmill.record.store import Counts

FACTS = (
    '{"rows":90,"answered":34,"failed":{"too_long":1},"running":8,"requests_per_second":1.6,'
    '"output_tokens_per_second":42.7,"seconds_left":34.8,"stopping":false}'
)


def element(number: str = "7", state: str = "RUNNING", nodes: str = "n[1-3]", first: str = "n1") -> Element:
    return Element(number=number, state=state, nodes=nodes, first=first)


def test_each_state_is_told_once() -> None:
    """A job's way through the queue is a line for each change, and its end is the end."""
    follower = Follower(Job(number="7"))
    waiting = Element(number="7", state="PENDING", reason="Priority")
    assert follower.hear([waiting]).notes == ("job 7: pending (Priority)",)
    assert follower.hear([waiting]).notes == ()
    assert follower.hear([element()]).notes == ("job 7: running on n[1-3]",)
    assert follower.hear([element(state="COMPLETED")]).notes == ("job 7: completed on n[1-3]",)


def test_an_end_must_last() -> None:
    """A job on its way back into the queue looks failed for a moment; an end is one that several looks see."""
    follower = Follower(Job(number="7"))
    failed, waiting = element(state="FAILED"), Element(number="7", state="PENDING")
    assert [follower.hear([each]).over for each in (failed, failed, waiting)] == [False] * 3
    assert [follower.hear([failed]).over for _ in range(ENDS)] == [False] * (ENDS - 1) + [True]


def test_an_array_is_told_in_one_line() -> None:
    """Of many elements the states are counted."""
    follower = Follower(Job(number="7"))
    elements = [element(f"7_{number}") for number in range(3)] + [element("7_[3-5%3]", "PENDING", "", "")]
    assert follower.hear(elements).notes == ("job 7: 1 pending, 3 running",)
    assert follower.hear([each for each in elements if each.state == "RUNNING"]).over is False


def test_a_job_that_nobody_would_end_is_let_go_once() -> None:
    """The node of the driver is gone: that is told until SLURM has taken the job back, and not while that happens."""
    follower = Follower(Job(number="7"))
    follower.hear([element()])
    lost = element(nodes="n[2-3]")
    assert follower.hear([lost]).lost == ("7",)
    follower.miss(SlurmSilent("scontrol requeue gave no answer"))
    assert follower.hear([lost]).lost == ("7",)
    told = ("job 7: the node of its driver is lost; it goes back into the queue and resumes",)
    assert follower.let_go("7", again=True).notes == told
    assert follower.hear([lost]).lost == ()
    follower.hear([Element(number="7", state="PENDING", reason="BeginTime")])
    follower.hear([element()])
    assert follower.hear([lost]).lost == ("7",)
    assert follower.let_go("7", again=False).notes[0].endswith("is lost; it is cancelled")


def test_a_job_that_slurm_forgot_is_over() -> None:
    """What is known of it is kept for the last word."""
    follower = Follower(Job(number="7"))
    follower.hear([element()])
    assert [follower.hear([]).over for _ in range(ENDS)][-1]
    assert follower.describe(follower.elements) == "running on n[1-3]"


def test_a_silent_controller_is_told_once() -> None:
    """The job works on whether or not SLURM answers; the same silence isn't told twice."""
    follower = Follower(Job(number="7"))
    silent = SlurmSilent("squeue gave no answer")
    assert follower.miss(silent).notes == ("squeue gave no answer; looking again",)
    assert follower.miss(silent).notes == ()
    follower.hear([element()])
    assert follower.miss(silent).notes != ()


def test_progress_is_read_from_a_log(tmp_path: Path) -> None:
    """The last whole line of progress counts, whatever stands around it."""
    assert logged_facts(tmp_path) is None
    (tmp_path / "slurm").mkdir()
    log = tmp_path / "slurm" / "7.log"
    log.write_text(f"{FACTS.replace('34', '12')}\n{FACTS}\nsrun: error: Node failure on n3\n\xff{{\n{FACTS[:50]}")
    found = logged_facts(tmp_path)
    assert found is not None
    assert (found.rows, found.answered, found.failed) == (90, 34, {"too_long": 1})


def test_progress_of_a_recipe_is_read_from_its_record(tmp_path: Path) -> None:
    """Prompts that were born and rows that ended since the follower began are what a driver would have counted."""
    say = Stage(name="say", prompt="{{ text }} {{ round }}", target={"say": 2}, parse=Parser(kind="lines"))
    rows = [{"text": "one"}, {"text": "two"}]
    answers = run(tmp_path, rows, pipeline=Recipe(name="lines", stages=(say,), rounds=2))
    seen = Progress(rows=2)
    none = StoryCounts(rows=2, success=0, short=0, failed=0, unfinished=2, rounds={})

    update(seen, answers.folder, Counts(rows=2, answered=0, failed={}), none)

    assert (seen.rows, seen.answered, seen.ended) == (4, 4, 2)


def test_the_reason_is_the_last_line_in_words(tmp_path: Path) -> None:
    """Data and SLURM's own remarks are passed over."""
    log = tmp_path / "7.log"
    log.write_text(f"{FACTS}\ntokenmill: the input changed\nslurmstepd: error: gone\n{FACTS}\n")
    assert last_words(log) == "tokenmill: the input changed"
    assert last_words(tmp_path / "none.log") == ""


def test_an_array_has_seats_for_all_of_its_workers() -> None:
    """Workers of elements that start later find a seat."""
    assert settled(On(kind="slurm", workers=2, options={"array": "4%2"})).seats == 8
    assert settled(On(kind="slurm", workers=2)).seats == 2
