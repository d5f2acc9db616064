"""Runs on a real cluster: to the end, through lost nodes and requeues, in arrays, cancelled and left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.slurm.jobs import PATIENCE, until, until_ended
from launch.slurm.scene import MODEL, Scene
from tokenmill.record.lock import RunLock
from tokenmill.testing.slurm import SlurmCluster


def test_a_run_is_submitted_followed_and_collected(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Three nodes answer all rows with the very bytes of a run without SLURM, and the command ends as that one does."""
    scene = Scene(cluster, tmp_path, rows=30)
    done = scene.run(*scene.words("--workers", "3", "--nodes", "3"))
    assert done.returncode == 0, done.stderr + scene.said()
    assert "submitted job" in done.stderr
    assert f"answers: {scene.output}" in done.stdout
    scene.check_whole()
    alone = tmp_path / "alone.jsonl"
    words = ["run", str(tmp_path / "in.txt"), *MODEL, "-o", str(alone), "--runs-dir", str(tmp_path / "other"), "-q"]
    assert subprocess.run([sys.executable, "-m", "tokenmill", *words], capture_output=True).returncode == 0
    assert texts(alone) == texts(scene.output)


def texts(path: Path) -> list[object]:
    """Id and answer of each line; ids that are made of the run's name aside."""
    return [
        (line["custom_id"], line["response"]["body"]["choices"])
        for line in map(json.loads, path.read_text().splitlines())
    ]


def test_a_node_that_is_cut_off_costs_no_answer(cluster: SlurmCluster, tmp_path: Path) -> None:
    """A node without the driver loses its power mid-run: the run goes on with the others and ends whole."""
    scene = Scene(cluster, tmp_path)
    with scene.started(*scene.words("--workers", "3", "--nodes", "3")) as follower:
        scene.until_answered(20)
        cluster.cut("n3")
        try:
            _, err = follower.communicate(timeout=PATIENCE)
        finally:
            cluster.start("n3")
    assert follower.returncode == 0, err + scene.said()
    scene.check_whole()


def test_a_requeued_job_resumes(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Put back into the queue by hand, or by itself as its time ends, a job goes on from the record."""
    scene = Scene(cluster, tmp_path)
    with scene.started(*scene.words("--workers", "2")) as follower:
        scene.until_answered(10)
        cluster.run("scontrol", "requeue", scene.job())
        started_again(scene)
        scene.until_answered(scene.answered + 10)
        cluster.run("scancel", "--batch", "--signal=USR1", scene.job())  # as SLURM does before the end of the time
        started_again(scene)
        _, err = follower.communicate(timeout=PATIENCE)
    assert follower.returncode == 0, err + scene.said()
    scene.check_whole()


def started_again(scene: Scene) -> None:
    """Waits until the job is back in the queue, and has it start soon: it would rest for two minutes.

    Not in the second in which it ended: a node takes what was signed for a job up to then for revoked.
    """
    until_ended(scene.cluster, scene.job(), "PENDING")
    scene.cluster.run("scontrol", "update", f"JobId={scene.job()}", "StartTime=now+2")


def test_another_element_takes_over(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Of an array one element drives and the workers of all answer; when its node is lost, another drives."""
    scene = Scene(cluster, tmp_path)
    options = ("--workers", "1", "--cpus", "2", "--array", "3", "--no-requeue")
    with scene.started(*scene.words(*options)) as follower:
        scene.until_answered(20)
        node = driver_node(scene)
        cluster.cut(node)
        try:
            _, err = follower.communicate(timeout=PATIENCE)
        finally:
            cluster.start(node)
    assert follower.returncode == 0, err + scene.said()
    scene.check_whole()


def test_another_element_takes_over_in_peace(cluster: SlurmCluster, tmp_path: Path) -> None:
    """The element that drives is told that its time ends: ranks of the others work for whoever drives next."""
    scene = Scene(cluster, tmp_path)
    options = ("--workers", "1", "--cpus", "2", "--array", "3", "--no-requeue")
    with scene.started(*scene.words(*options)) as follower:
        scene.until_answered(20)
        node = driver_node(scene)
        (driving,) = cluster.run("squeue", "-h", "-w", node, "-o", "%F_%K").split()
        cluster.run("scancel", "--batch", "--signal=USR1", driving)
        _, err = follower.communicate(timeout=PATIENCE)
    assert follower.returncode == 0, err + scene.said()
    assert scene.sessions() == 2
    scene.check_whole()


def test_a_step_that_slurm_refuses_ends_the_job(cluster: SlurmCluster, tmp_path: Path) -> None:
    """No rank will ever come, so the driver doesn't wait for one until the job's time ends."""
    scene = Scene(cluster, tmp_path, rows=3)
    refused = "srun() { echo 'srun: error: Unable to create step: no' >&2; return 1; }"
    done = scene.run(*scene.words("--workers", "2", "--setup", refused))
    assert done.returncode == 4
    assert "srun ended, and all ranks of the job with it" in done.stderr, done.stderr + scene.said()
    assert scene.answered == 0
    until(lambda: cluster.run("squeue", "-h") == "")
    assert scene.workers() == []


def driver_node(scene: Scene) -> str:
    """The node where the driver of this run is: its `tokenmill resume`."""
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "cmdline").read_bytes().split(b"\0")
                variables = (each / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"resume" in words and str(scene.run_folder).encode() in words:
                return next(each for each in variables if each.startswith(b"SLURMD_NODENAME=")).decode()[16:]
    raise AssertionError("no driver is at work")


def test_an_interrupt_leaves_the_job_alone_and_resume_follows_it(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Ctrl-C says that the job works on and how to follow it; `resume` submits no second one."""
    scene = Scene(cluster, tmp_path, rows=60)
    with scene.started(*scene.words("--workers", "1")) as follower:
        scene.until_answered(5)
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=PATIENCE)
    assert follower.returncode == 4
    assert f"job {scene.job()} works on without you; cancel it with: scancel {scene.job()}; go on with:" in err
    job = scene.job()
    done = scene.run("resume", str(scene.run_folder))
    assert done.returncode == 0, done.stderr + scene.said()
    assert scene.job() == job
    scene.check_whole()


def test_an_interrupt_cancels_the_job_if_asked_to(cluster: SlurmCluster, tmp_path: Path) -> None:
    """With `--interrupt cancel` Ctrl-C ends the job, what was answered is kept, and a new job goes on with the rest."""
    scene = Scene(cluster, tmp_path)
    with scene.started(*scene.words("--workers", "1", "--interrupt", "cancel")) as follower:
        scene.until_answered(5)
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=PATIENCE)
    assert follower.returncode == 4
    assert f"job {scene.job()} was cancelled" in err
    assert until_ended(cluster, scene.job()) == "CANCELLED"
    until(lambda: scene.workers() == [])
    kept = scene.answered
    assert 5 <= kept < scene.rows
    job, lock = scene.job(), RunLock(scene.run_folder / "slurm")
    refused = scene.run("resume", str(scene.run_folder))  # while another resume is about to submit one
    lock.release()
    assert (refused.returncode, scene.job()) == (2, job)
    assert f"in use by process {os.getpid()}" in refused.stderr
    done = scene.run("resume", str(scene.run_folder))
    assert done.returncode == 0, done.stderr + scene.said()
    scene.check_whole()


def test_a_dry_run_prints_the_script(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Nothing is prepared and nothing submitted, and SLURM takes what was printed."""
    scene = Scene(cluster, tmp_path, rows=1)
    done = scene.run(*scene.words("--workers", "2", "--time", "10", "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert f"run={scene.run_folder}" in done.stdout
    tested = subprocess.run(
        ["sbatch", "--test-only"], input=done.stdout, env=scene.environment, capture_output=True, text=True
    )
    assert tested.returncode == 0, tested.stderr
    assert not scene.run_folder.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--partition", "nope"), "SLURM refuses the job: invalid partition specified: nope"),
        (("--workers", "1", "--nodes", "2"), "--nodes 2 are more than the 1 processes"),
        (("--time", "soon"), "--time 'soon' can't be used"),
        (("--partition", "wide"), "node 'far' is another; keep runs in a folder that all nodes see (--runs-dir)"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    cluster: SlurmCluster, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """Cause and remedy in one line, and nothing is submitted."""
    scene = Scene(cluster, tmp_path, rows=1)
    done = scene.run(*scene.words(*options))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert cluster.run("squeue", "-h") == ""


def test_a_machine_without_slurm_says_so(tmp_path: Path) -> None:
    """Where there is no sbatch, one line says what to do instead, and no run is prepared."""
    (tmp_path / "in.txt").write_text("hello\n")
    words = [
        "run",
        str(tmp_path / "in.txt"),
        "--model",
        "demo",
        "--on",
        "slurm:2",
        "--runs-dir",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tokenmill", *words],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tokenmill: no sbatch on this machine; type the line on a host of the cluster")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs" / "x").exists()
