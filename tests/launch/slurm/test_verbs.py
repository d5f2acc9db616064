"""What may be done with the job of a run: `tokenmill launch slurm cancel`, `requeue`, `logs` and `follow`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cli.desk import SCRIPTED, Desk
from launch.slurm.jobs import PATIENCE, until, until_ended
from launch.slurm.scene import Scene
from tokenmill.errors import UsageError
from tokenmill.launch.slurm.allocation import Allocation
from tokenmill.launch.slurm.job import Job, live_job, submit
from tokenmill.launch.slurm.place import job_file, script_file, slurm_folder
from tokenmill.launch.slurm.state import read_sacct, read_scontrol, read_squeue
from tokenmill.testing.slurm import SlurmCluster


@pytest.fixture
def here(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """The cluster, which this process's own commands find."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


def test_a_job_is_requeued_cancelled_and_followed(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Each verb does to the job what it says, keeps the answers, and says what follows from it."""
    scene = Scene(cluster, tmp_path, rows=300)  # more than are answered before the job is cancelled

    def act(verb: str) -> tuple[int, str, str]:
        done = scene.run("launch", "slurm", verb, str(scene.run_folder))
        return done.returncode, done.stdout, done.stderr

    with scene.started(*scene.words("--workers", "1")) as follower:
        scene.until_answered(5)
        code, out, err = act("logs")
        assert (code, "--- " in err) == (0, True)
        assert '"answered"' in out
        code, _, err = act("requeue")
        assert (code, err) == (
            0,
            f"tokenmill: job {scene.job()} is back in the queue, and resumes from its record\n",
        )
        until_ended(cluster, scene.job(), "PENDING")
        cluster.run("scontrol", "update", f"JobId={scene.job()}", "StartTime=now")
        kept = scene.answered
        scene.until_answered(kept + 3)
        code, _, err = act("cancel")
        assert (
            code,
            f"job {scene.job()} was cancelled; its answers are kept; go on with: tokenmill resume" in err,
        ) == (
            0,
            True,
        )
        follower.communicate(timeout=PATIENCE)
    assert follower.returncode == 4
    assert until_ended(cluster, scene.job()) == "CANCELLED"
    until(lambda: scene.workers() == [])
    assert kept + 3 <= scene.answered < scene.rows
    code, _, err = act("cancel")
    assert (code, f"job {scene.job()} had ended (cancelled" in err) == (0, True)
    code, _, err = act("follow")
    assert (code, f"job {scene.job()} has ended and the run hasn't; go on with: tokenmill resume" in err) == (2, True)
    done = scene.run("resume", str(scene.run_folder))
    assert done.returncode == 0, done.stderr + scene.said()
    scene.check_whole()
    code, out, err = act("follow")
    assert (code, f"answers: {scene.output}" in out) == (0, True), err
    code, _, err = act("requeue")
    assert (code, "has its answer" in err) == (2, True)


@pytest.mark.parametrize("verb", ["cancel", "requeue", "logs", "follow"])
def test_a_run_without_a_job(tmp_path: Path, verb: str) -> None:
    """One line says that no job was submitted, and how one is."""
    desk = Desk(tmp_path)
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "x", "--quiet").code == 0

    ended = desk.call("launch", "slurm", verb, "x")

    assert ended.code == 2
    assert "no job was submitted for this run; submit one with 'tokenmill launch slurm'" in ended.err
    assert ended.err.count("\n") == 1


def test_a_run_of_another_runs_folder(here: SlurmCluster, tmp_path: Path) -> None:
    """`--runs-dir` says where the run is, as it did when that was submitted: `last` is the last one there."""
    number = here.run("sbatch", "--parsable", "-J", "mine", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until_ended(here, number, "RUNNING")
    desk = Desk(tmp_path)
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "x", "--quiet", "--runs-dir", "there").code == 0
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "y", "--quiet").code == 0
    slurm_folder(tmp_path / "there" / "x").mkdir()
    job_file(tmp_path / "there" / "x").write_bytes(msgspec.json.encode(Job(number=number, name="mine")))

    ended = desk.call("launch", "slurm", "cancel", "last", "--runs-dir", "there")

    assert (ended.code, f"job {number} was cancelled" in ended.err) == (0, True), ended.err
    until_ended(here, number, "CANCELLED")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_the_runs_folder_of_a_run_stands_behind_it(tmp_path: Path, dry: tuple[str, ...]) -> None:
    """In front of what is launched it would be passed over, so the line says where it belongs; nothing starts."""
    desk = Desk(tmp_path)

    ended = desk.call("launch", "slurm", "--runs-dir", "there", *dry, "--", "run", "ok.txt", "--model", "demo")

    assert ended.code == 2
    assert "--runs-dir there is for follow, cancel, requeue, logs;" in ended.err
    assert "write it behind the --" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_a_job_of_another_name_is_left_alone(here: SlurmCluster, tmp_path: Path) -> None:
    """A folder that two clusters see: on the other one the number is somebody else's, who isn't cancelled."""
    number = here.run("sbatch", "--parsable", "-J", "theirs", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until_ended(here, number, "RUNNING")
    desk = Desk(tmp_path)
    assert desk.call("run", "ok.txt", *SCRIPTED, "--run-id", "x", "--quiet").code == 0
    slurm_folder(desk.runs / "x").mkdir()
    job_file(desk.runs / "x").write_bytes(msgspec.json.encode(Job(number=number, name="tokenmill-x")))

    assert live_job(desk.runs / "x") is None
    ended = desk.call("launch", "slurm", "cancel", "x")

    assert ended.code == 2
    assert f"SLURM doesn't know job {number} of this run" in ended.err
    assert here.run("squeue", "-h", "-j", number, "-o", "%T").strip() == "RUNNING"
    here.run("scancel", number)
    until_ended(here, number, "CANCELLED")


def test_a_job_is_known_by_the_name_that_it_got(
    here: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that names all jobs has its way, and the job is found all the same."""
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    job = submit(tmp_path, Allocation())

    assert job.name == "mine"
    assert live_job(tmp_path) == job
    here.run("scancel", job.number)
    until(lambda: here.run("squeue", "-h") == "")


def test_a_job_has_the_environment_of_who_submits(
    here: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a secret that the shell has needs no place in a script; it isn't in ours."""
    seen = tmp_path / "seen"
    monkeypatch.setenv("SOME_TOKEN", "hush")
    submit(tmp_path, Allocation(setup=(f'printf %s "$SOME_TOKEN" >{seen}',)))

    until(lambda: here.run("squeue", "-h") == "")
    assert seen.read_text() == "hush"
    assert "hush" not in script_file(tmp_path).read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("launch", "slurm", "--env", "SOME_TOKEN=hush", "--", "run", "ok.txt", "--model", "demo"),
        ("launch", "slurm", "--env", "PLACE=hush", "--", "run", "ok.txt", "--node", "x"),
        ("launch", "slurm", "--env", "SOME TOKEN=hush", "--", "run", "ok.txt", "--model", "demo"),
        ("run", "ok.txt", "--model", "demo", "--on", "slurm:1,environment=SOME_TOKEN=hush"),
    ],
)
def test_a_secret_is_refused_and_not_said(here: SlurmCluster, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Neither the line about it nor anything that is kept has it: there is no run, and no job."""
    desk = Desk(tmp_path)

    ended = desk.call(*words)

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "hush" not in ended.err
    assert desk.made_runs() == []
    assert here.run("squeue", "-h") == ""


def test_a_job_that_nobody_could_find_again_is_cancelled(here: SlurmCluster, tmp_path: Path) -> None:
    """Where the number of a job can't be noted, the job doesn't stay."""
    slurm_folder(tmp_path).mkdir()
    job_file(tmp_path).mkdir()

    with pytest.raises(UsageError, match=r"job\.json: can't be written \(Is a directory\), so job \d+ was cancelled"):
        submit(tmp_path, Allocation())
    until(lambda: here.run("squeue", "-h") == "")


def test_names_of_jobs_are_read() -> None:
    """Others may call theirs what they like, also with what stands between the fields."""
    (waiting,) = read_squeue("7|PENDING|Priority||n/a|a|b c")
    (ended,) = read_sacct("7|COMPLETED|0:0|n1|tokenmill-x")
    (working,) = read_scontrol("JobId=7 JobName=two words UserId=root(0) JobState=RUNNING")

    assert [each.name for each in (waiting, ended, working)] == ["a|b c", "tokenmill-x", "two words"]
