"""What the environment of a rank says of it, whoever started it: torchrun, srun, or a launcher of ours."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, MutableMapping

from tokenmill.engine.local.environment import without_secrets, worker_environment
from tokenmill.engine.local.machine import has_fast_bf16, physical_cores, usable_cores, usable_memory
from tokenmill.launch.cores import CORES_VARIABLE, SHARE_VARIABLE, divide, pin, pin_as_told
from tokenmill.launch.invitation import FILE_VARIABLE, JOIN_VARIABLE, TOKEN_VARIABLE
from tokenmill.launch.member import Member

#: The rank's number among all of a launcher, where RANK is that within its group alone.
RANK_VARIABLE = "TOKENMILL_RANK"
#: The seat a worker wants.
SEAT_VARIABLE = "TOKENMILL_SEAT"
#: How many ranks share this host's memory, and its cores where nothing else is said of those.
BESIDE_VARIABLE = "TOKENMILL_BESIDE"
#: Processors that were reserved for the rank by whoever counts them and binds nobody, as Ray does; two may be one core.
CPUS_VARIABLE = "TOKENMILL_CPUS"
#: The number of the parent, where the rank shall end with it, and at SIGTERM, as launchers on this machine want it.
LEASH_VARIABLE = "TOKENMILL_LEASH"
TP_VARIABLE = "TOKENMILL_TP"
#: What tells a rank where to go and what it is, by us or by other launchers.
_TOLD = (
    *(JOIN_VARIABLE, TOKEN_VARIABLE, FILE_VARIABLE, RANK_VARIABLE, SEAT_VARIABLE, BESIDE_VARIABLE, LEASH_VARIABLE),
    *(TP_VARIABLE, CORES_VARIABLE, SHARE_VARIABLE, CPUS_VARIABLE),
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"),
)
#: Ports for ranks to meet at that are made of a SLURM job's number.
_FIRST_PORT, _PORTS = 20000, 20000


def rank_environment(threads: int, told: Mapping[str, str]) -> dict[str, str]:
    """What a rank is started with: nothing that was meant for another one, as where the driver is in a job itself."""
    inherited = {name: value for name, value in os.environ.items() if name not in _TOLD}
    return worker_environment(inherited, threads) | dict(told)


def is_left(environment: Mapping[str, str]) -> bool:
    """Whether the parent that holds the leash is gone: it may have ended before the leash was on."""
    return environment.get(LEASH_VARIABLE, str(os.getppid())) != str(os.getppid())


def forget_secrets(environment: MutableMapping[str, str]) -> None:
    """Drops what looks like a secret, but for the one that proves the rank: others than our launchers may start it."""
    kept = without_secrets(environment).keys() | {TOKEN_VARIABLE}
    for name in environment.keys() - kept:
        del environment[name]


def as_torchrun(environment: MutableMapping[str, str]) -> None:
    """Says what srun says in the words of torchrun, where those aren't set."""
    if "SLURM_PROCID" not in environment or "RANK" in environment:
        return
    for name, source, default in (
        ("RANK", "SLURM_PROCID", "0"),
        ("WORLD_SIZE", "SLURM_NTASKS", "1"),
        ("LOCAL_RANK", "SLURM_LOCALID", "0"),
    ):
        environment[name] = environment.get(source, default)
    tasks = expand_counts(environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", ""))
    node = number(environment, "SLURM_NODEID", 0)
    if node < len(tasks):
        environment.setdefault("LOCAL_WORLD_SIZE", str(tasks[node]))
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    environment.setdefault("MASTER_ADDR", first_host(hosts) or "127.0.0.1")
    port = _FIRST_PORT + (number(environment, "SLURM_JOB_ID", 0) + number(environment, "SLURM_STEP_ID", 0)) % _PORTS
    environment.setdefault("MASTER_PORT", str(port))


def expand_counts(text: str) -> list[int]:
    """SLURM's `2(x3),1` as a list: 2, 2, 2, 1."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts


def first_host(text: str) -> str:
    """The first host of a list as SLURM writes it: `n[1-3],m4` begins with `n1`."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?", text.strip())
    return found[1] + (found[2] or "") if found else ""


def settle(environment: Mapping[str, str]) -> Member:
    """Binds this process to its cores, and says what it is and may use; nothing that starts threads came before."""
    here = number(environment, "LOCAL_WORLD_SIZE", 1)
    beside = max(1, number(environment, BESIDE_VARIABLE, here))
    if told := environment.get(CORES_VARIABLE):
        pin_as_told(told)
        cores = usable_cores()
    elif environment.get(SHARE_VARIABLE):
        pin(divide(physical_cores(), max(1, here))[number(environment, "LOCAL_RANK", 0) % max(1, here)])
        cores = usable_cores()
    elif reserved := number(environment, CPUS_VARIABLE, 0):
        cores = min(reserved, max(1, usable_cores() // beside))
    elif per_rank := number(environment, "SLURM_CPUS_PER_TASK", 0):
        cores = min(usable_cores(), per_rank)
    else:
        cores = max(1, usable_cores() // beside)
    return Member(
        host=socket.gethostname(),
        pid=os.getpid(),
        rank=number(environment, RANK_VARIABLE, number(environment, "RANK", 0)),
        restart=number(environment, "TORCHELASTIC_RESTART_COUNT", 0) or number(environment, "SLURM_RESTART_COUNT", 0),
        cores=cores,
        memory=usable_memory() // beside,
        fast_bf16=has_fast_bf16(),
        seat=environment.get(SEAT_VARIABLE, ""),
        tp=number(environment, TP_VARIABLE, 1),
    )


def own_gpu(environment: Mapping[str, str]) -> str | None:
    """The one GPU of a rank that shares a host with others and isn't told of its own; None leaves it as it is."""
    here, local = number(environment, "LOCAL_WORLD_SIZE", 1), number(environment, "LOCAL_RANK", 0)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if here < 2 or number(environment, TP_VARIABLE, 1) > 1:
        return None
    if visible is None:
        return str(local)
    listed = [each.strip() for each in visible.split(",") if each.strip()]
    return listed[local] if len(listed) > 1 and local < len(listed) else None


def number(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number, the default for anything else: what isn't ours to set may say what it likes."""
    text = environment.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else default
