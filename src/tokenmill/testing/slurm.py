"""A real SLURM cluster on one machine: a controller and three virtual nodes, as root, without systemd or a database.

Nothing of it can be left behind. All daemons live in a namespace of processes whose first process reads its standard
input: when that ends, however its owner died, the first process ends too, and with it the kernel kills everything
inside, jobs included. Each node is a namespace again, so that a node can be cut off like by a power cut, with every
process on it. A job therefore also sees process numbers that mean nothing on the host that submitted it, as on a real
cluster; files and network are shared.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tokenmill.errors import UsageError

NODES = ("n1", "n2", "n3")
#: A node of partition `wide` that is another host, and never there.
FAR = "far"
#: What must be installed; Debian's packages slurmctld, slurmd, slurm-client and munge bring all of it.
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "unshare")
#: Daemons lie where a user's path may not lead.
PLACES = "/usr/sbin:/sbin"
#: Seconds after which a command hangs, or a cluster doesn't start; far beyond what either takes.
PATIENCE = 60.0
POLL = 0.05

#: The first process of the cluster. It gets the folder and the names of the nodes.
_KEEPER = """
folder=$1; shift
start() {
  unshare --pid --fork --mount-proc --kill-child sh -c 'slurmd -D -f "$0/slurm.conf" -N "$1"; true' "$folder" "$1" &
  echo $! > "$folder/$1.keeper"
}
munged -F --force --key-file="$folder/munge.key" --socket="$folder/munge.sock" --pid-file="$folder/munged.pid" \\
  --log-file="$folder/log/munged.log" --seed-file="$folder/munged.seed" &
while [ ! -S "$folder/munge.sock" ]; do sleep 0.02; done
slurmctld -D -f "$folder/slurm.conf" &
for node; do start "$node"; done
while read -r word node; do
  case $word in
    cut) read -r pid < "$folder/$node.keeper"; kill -9 "$pid"; wait "$pid"; echo "$word $node" ;;
    start) start "$node"; echo "$word $node" ;;
  esac
done
kill -9 -1
rm -rf "$folder"
"""

_CONFIGURATION = """
ClusterName=tokenmill
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=5,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait={kill_wait}
SlurmdTimeout={node_timeout}
"""


def missing_programs() -> list[str]:
    """What a cluster needs and this machine doesn't have."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


class SlurmCluster:
    """`with SlurmCluster() as cluster:` and then commands with `cluster.environment`, which says where it is.

    `node_timeout`: seconds after which a silent node is down. `kill_wait`: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, *, node_timeout: int = 10, kill_wait: int = 10, cores: int = 2) -> None:
        self._node_timeout = node_timeout
        self._kill_wait = kill_wait
        self._cores = cores
        self._keeper: subprocess.Popen[str] | None = None
        self.folder = Path()

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the way to the cluster."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}

    @property
    def pid(self) -> int:
        """The process that ends with the cluster."""
        assert self._keeper is not None, "a cluster has a process while it is open"
        return self._keeper.pid

    def open(self) -> Self:
        """Starts all daemons and waits until every node is idle; raises `UsageError` with the reason if that fails."""
        if missing := missing_programs():
            raise UsageError(f"no {', '.join(missing)}; install slurmctld, slurmd, slurm-client and munge")
        self.folder = Path(tempfile.mkdtemp(prefix="tm-slurm-"))  # short: a socket's path has at most 107 bytes
        self._configure()
        words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", _KEEPER, "sh"]
        with (self.folder / "log" / "keeper.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [*words, str(self.folder), *NODES],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                start_new_session=True,  # an interrupt of the tests is not for the daemons
            )
        try:
            self._wait_for_nodes()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Ends every daemon and job, and removes the folder."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        try:
            keeper.communicate(timeout=PATIENCE)  # closes its input, which ends it
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cut(self, node: str) -> None:
        """Every process on the node is gone at once, as if its power were cut; nobody is told."""
        self._order("cut", node)

    def start(self, node: str) -> None:
        """Starts a node again that was cut."""
        self._order("start", node)

    def run(self, *words: str) -> str:
        """What a command of SLURM says; raises `UsageError` if it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise UsageError(f"{words[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def logs(self) -> str:
        """The end of each daemon's log, for whoever wonders why something failed."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted((self.folder / "log").glob("*.log"))
        )

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _configure(self) -> None:
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        host = socket.gethostname().partition(".")[0]
        ports = _free_ports(1 + len(NODES))
        text = _CONFIGURATION.format(
            host=host,
            port=ports[0],
            folder=self.folder,
            kill_wait=self._kill_wait,
            node_timeout=self._node_timeout,
        )
        for node, port in zip(NODES, ports[1:], strict=True):
            text += (
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self._cores}"
                " RealMemory=2000 Gres=gpu:1\n"
            )
        names = ",".join(NODES)
        text += f"PartitionName=debug Nodes={names} Default=YES MaxTime=INFINITE State=UP\n"
        text += f"NodeName={FAR} NodeHostname={FAR} NodeAddr=192.0.2.9 CPUs=1 RealMemory=100 State=DOWN\n"
        text += f"PartitionName=wide Nodes={NODES[0]},{FAR} MaxTime=INFINITE State=UP\n"
        text += f"PartitionName=short Nodes={NODES[0]} MaxTime=00:05:00 State=UP\n"
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        (self.folder / "gres.conf").write_text(f"NodeName={names} Name=gpu File=/dev/null\n", encoding="utf-8")

    def _wait_for_nodes(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            words = ["sinfo", "-h", "-p", "debug", "-t", "idle", "-o", "%D"]
            seen = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
            if seen.stdout.strip() == str(len(NODES)):
                return
            assert self._keeper is not None, "the nodes of an open cluster are waited for"
            if self._keeper.poll() is not None or time.monotonic() > until:
                raise UsageError(f"the cluster does not start: {seen.stderr.strip()}\n{self.logs()}")
            time.sleep(POLL)

    def _order(self, word: str, node: str) -> None:
        assert self._keeper is not None, "only an open cluster takes orders"
        assert self._keeper.stdin is not None, "the process was started with pipes"
        assert self._keeper.stdout is not None, "the process was started with pipes"
        self._keeper.stdin.write(f"{word} {node}\n")
        self._keeper.stdin.flush()
        if self._keeper.stdout.readline().split() != [word, node]:
            raise UsageError(f"the cluster has ended\n{self.logs()}")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{PLACES}"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
