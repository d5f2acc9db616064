"""What is asked of SLURM for a run: nodes, processes, GPUs, time, and what is set up before they start.

Every value is checked here, once, and the one that is wrong is named. Nothing of it can end a line of the script or
begin a command of its own. Secrets are refused: all of this is kept, in the run's manifest and in the job's script.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.engine.local.environment import without_secrets
from tokenmill.errors import UsageError
from tokenmill.launch.spec import VARIABLES

#: What stands between the values of an option that may be given more than once, where all are one text.
BETWEEN = "\n"
#: Options of #SBATCH that the script decides itself.
OURS = ("--array", "--job-name", "--no-kill", "--ntasks", "--open-mode", "--output", "--error", "--signal", "--wrap")

_NUMBER = re.compile(r"[1-9][0-9]{0,6}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,@+-]*")
_MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?")
_GPUS = re.compile(r"(?:[A-Za-z][A-Za-z0-9_.-]*:)?[1-9][0-9]{0,3}")
_TIME = re.compile(r"\d+(?:-\d{1,2}(?::\d{1,2}){0,2}|(?::\d{1,2}){0,2})|UNLIMITED", re.IGNORECASE)
_ARRAY = re.compile(r"([1-9][0-9]{0,5})(?:%([1-9][0-9]{0,5}))?")
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+=@-]*")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_EXTRA = re.compile(r"(--[a-z][a-z-]*)(?:=(.*))?")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Allocation(Struct, frozen=True, kw_only=True):
    """One job, or each element of an array of them.

    `tasks` are processes, of which each holds a rank; `cpus` and `gpus` are for each of them, `memory` for each node.
    `nodes` None lets SLURM choose. `elements` above 1 makes an array, of which at most `throttle` run at the same time.
    `setup` are lines of shell that run first, `container` are words before the command that each process runs. `python`
    is the interpreter on the nodes. `shared`: the user says that all nodes see the run folder. `requeue`: a job that
    lost its nodes, or ran out of its time, waits for others and goes on. `interrupt`: what Ctrl-C does to whoever
    follows the job, `detach` or `cancel`.
    """

    tasks: int = 1
    nodes: int | None = None
    cpus: int | None = None
    gpus: str | None = None
    memory: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    elements: int = 1
    throttle: int | None = None
    modules: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    python: str = "python3"
    requeue: bool = True
    shared: bool = False
    interrupt: str = "detach"

    @property
    def is_array(self) -> bool:
        return self.elements > 1


#: Options by the name they have on the command line: the pattern of their value and an example of it.
_PLAIN = {
    "cpus": (_NUMBER, "a number of cores for each process, such as 8"),
    "gpus": (_GPUS, "a number of GPUs for each process, such as 1 or a100:2"),
    "memory": (_MEMORY, "a size for each node, such as 64G"),
    "time": (_TIME, "minutes, H:M:S or D-H:M:S, such as 2:00:00"),
    "partition": (_NAME, "the name of a partition"),
    "account": (_NAME, "the name of an account"),
    "qos": (_NAME, "the name of a quality of service"),
}
_SEVERAL = {
    "modules": (_MODULE, "a module's name, such as cuda/12.4"),
    VARIABLES: (_VARIABLE, "NAME=VALUE"),
    "extra": (_EXTRA, "an option of sbatch, such as --constraint=a100"),
    "setup": (None, "a line of shell"),
}
#: What those are called on the command line whose name says that there may be several.
SHOWN = {"modules": "module", VARIABLES: "env"}
OPTIONS = (*_PLAIN, *_SEVERAL, "nodes", "array", "container", "python", "requeue", "shared", "interrupt")


def parse_allocation(options: Mapping[str, str], tasks: int) -> Allocation:
    """From the options of a launcher; raises `UsageError` that names the first value that can't be."""
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"slurm has no option {name!r}; known: {', '.join(sorted(OPTIONS))}")
    found: dict[str, Any] = {"tasks": tasks}
    for name, (pattern, example) in _PLAIN.items():
        if (value := options.get(name)) is not None:
            _fits(name, value, pattern, example)
            found[name] = int(value) if name == "cpus" else value
    for name, (each_fits, example) in _SEVERAL.items():
        if (value := options.get(name)) is not None:
            values = tuple(each for each in value.split(BETWEEN) if each.strip())
            for each in values:
                _fits(name, each, each_fits, example)
            found[name] = values
    if (value := options.get("nodes")) is not None:
        found["nodes"] = _nodes(value, tasks)
    if (value := options.get("array")) is not None:
        found |= _array(value)
    if (value := options.get("container")) is not None:
        found["container"] = _words(value)
    found["python"] = options.get("python", sys.executable)
    _fits("python", found["python"], None, "the path of an interpreter")
    for name in ("requeue", "shared"):
        if (value := options.get(name)) is not None:
            _fits(name, value, re.compile("yes|no"), "yes or no")
            found[name] = value == "yes"
    if (value := options.get("interrupt")) is not None:
        _fits("interrupt", value, re.compile("detach|cancel"), "detach or cancel")
        found["interrupt"] = value
    for line in found.get("extra", ()):
        _refuse_ours(line)
    for pair in found.get(VARIABLES, ()):
        _refuse_secret(pair)
    return msgspec.convert(found, Allocation)


def seconds(time: str | None) -> int | None:
    """A limit as SLURM writes it: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; None for none."""
    if time is None or time.upper() == "UNLIMITED":
        return None
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1)[0 if dash or len(parts) == 3 else 1 :]
    return 86400 * int(days or 0) + sum(part * unit for part, unit in zip(parts, units, strict=False))


def _fits(name: str, value: str, pattern: re.Pattern[str] | None, example: str) -> None:
    if not value.strip() or CONTROL.search(value) or (pattern is not None and not pattern.fullmatch(value)):
        shown = value.partition("=")[0] if name == VARIABLES else value
        raise UsageError(f"slurm: --{SHOWN.get(name, name)} {shown!a} can't be used; write {example}")


def _nodes(value: str, tasks: int) -> int:
    _fits("nodes", value, _NUMBER, "a number of nodes, such as 4")
    if int(value) > tasks:
        raise UsageError(
            f"slurm: --nodes {value} are more than the {tasks} processes that run on them; ask for fewer nodes or more "
            "workers"
        )
    return int(value)


def _array(value: str) -> dict[str, int]:
    _fits("array", value, _ARRAY, "a number of jobs and how many may run at the same time, such as 8 or 8%2")
    count, _, throttle = value.partition("%")
    return {"elements": int(count)} | ({"throttle": int(throttle)} if throttle else {})


def _words(line: str) -> tuple[str, ...]:
    example = "the words before a command, such as 'apptainer exec --nv image.sif'"
    _fits("container", line, None, example)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise UsageError(f"slurm: --container {line!a} can't be used ({error}); write {example}") from error


def _refuse_ours(line: str) -> None:
    name = line.partition("=")[0]
    if name in OURS:
        raise UsageError(f"slurm: --extra {line!a} can't be used; the script sets {name} itself")


def _refuse_secret(pair: str) -> None:
    """By the rule that keeps secrets from ranks."""
    name, _, value = pair.partition("=")
    if not without_secrets({name: value}):
        raise UsageError(
            f"slurm: --env {name} looks like a secret, and the run's manifest and the job's script would keep it; "
            f"leave it out and export {name} in the shell that submits, whose environment sbatch hands to the job"
        )
