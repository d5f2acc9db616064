"""The test kit's cluster: real jobs, a node that loses its power, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from launch.slurm.jobs import until, until_ended, until_gone
from requirements import require
from tokenmill.testing.slurm import SlurmCluster

OWNER = """
import sys
from tokenmill.testing.slurm import SlurmCluster
cluster = SlurmCluster().open()
cluster.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 600")
print(cluster.pid, cluster.folder, flush=True)
sys.stdin.read()
"""


def test_it_runs_jobs_on_all_nodes(cluster: SlurmCluster, tmp_path: Path) -> None:
    """A job on three nodes starts a process on each, and its output is a file here."""
    wrapped = "srun sh -c 'echo $SLURMD_NODENAME'"
    number = cluster.run("sbatch", "--parsable", "-N3", "-o", str(tmp_path / "said"), "--wrap", wrapped).strip()
    assert until_ended(cluster, number) == "COMPLETED"
    assert sorted((tmp_path / "said").read_text().split()) == ["n1", "n2", "n3"]


def test_a_killed_owner_leaves_no_daemon_and_no_job() -> None:
    """When the process that started a cluster is killed, every daemon, every job and the folder are gone."""
    require("slurm")
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        until(lambda: "sleep" in names_under(int(pid)))  # the job has begun on a node
        assert {"slurmctld", "munged", "slurmd", "slurmstepd"} <= names_under(int(pid))
        inside = psutil.Process(int(pid)).children(recursive=True)
    finally:
        owner.kill()
        owner.communicate()
    until_gone([int(pid), *(each.pid for each in inside)])
    assert not Path(folder).exists()


def names_under(pid: int) -> set[str]:
    """What runs in the cluster of this process now."""
    names = set()
    for each in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names.add(each.name())
    return names


def test_a_cut_node_is_silent_at_once(cluster: SlurmCluster) -> None:
    """What runs on a node that is cut off ends without a word, and the node takes jobs again once it is back."""
    number = cluster.run("sbatch", "--parsable", "-w", "n3", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until(lambda: "sleep" in names_under(cluster.pid))
    (sleeping,) = [each for each in psutil.Process(cluster.pid).children(recursive=True) if each.name() == "sleep"]
    cluster.cut("n3")
    until_gone([sleeping.pid])
    cluster.start("n3")
    cluster.run("scancel", number)
    until_ended(cluster, number)
