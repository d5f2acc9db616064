"""The batch script of a run: what SLURM is asked for, and what the first node of the allocation does.

It starts the ranks on all nodes, where each is started again if it dies, and the run's part on the first: whoever gets
the run's lock drives, in an array the others stand by (see `element`). A rank on a node that is lost is lost, and the
rest goes on: neither the job nor the step ends with a node.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.launch.invitation import FILE_VARIABLE, PATIENCE_VARIABLE
from tokenmill.launch.slurm.allocation import CONTROL, Allocation, seconds
from tokenmill.launch.slurm.place import ELEMENT_VARIABLE, RANKS_VARIABLE, join_file, log_pattern

#: Seconds before the end of its time at which a job is told, so that what is in flight can still be answered.
NOTICE = 90
#: Times that a rank which died is started on its node.
TRIES = 20
#: Seconds for which a rank looks for a driver: another element may take over, or the job be started elsewhere.
PATIENCE = 300
TP_VARIABLE = "TOKENMILL_TP"


def write_script(folder: Path, name: str, allocation: Allocation, tp: int = 1) -> str:
    """The text of the script for the run in `folder`; `name` is what SLURM lists the job as.

    Raises `UsageError` for a folder whose name would end a line of it.
    """
    if CONTROL.search(str(folder)):
        raise UsageError(f"{str(folder)!a}: control characters can't stand in a script; name another --runs-dir")
    lines = ["#!/bin/bash -l" if allocation.modules else "#!/bin/bash"]
    lines += [f"#SBATCH {option}" for option in _options(folder, name, allocation)]
    lines += ["", f"run={shlex.quote(str(folder))}"]
    lines += [f"module load {shlex.quote(each)} || exit 2" for each in allocation.modules]
    lines += [f"export {_assigned(each)}" for each in allocation.environment]
    lines += allocation.setup
    lines += [_SEEN, f"export {FILE_VARIABLE}={shlex.quote(str(join_file(folder)))}"]
    lines += [f"export {PATIENCE_VARIABLE}={PATIENCE} {ELEMENT_VARIABLE}=1 PYTHONUNBUFFERED=1"]
    if tp > 1:
        lines += [f"export {TP_VARIABLE}={tp}"]
    command = " ".join(map(shlex.quote, [*allocation.container, allocation.python, "-P", "-m"]))
    body = _BODY.format(
        command=command,
        tries=TRIES,
        variable=RANKS_VARIABLE,
        well=_NEXT if allocation.is_array else "exit",
        rest=_REST if allocation.is_array else "",
    )
    return "\n".join(lines) + "\n" + body


def _options(folder: Path, name: str, allocation: Allocation) -> list[str]:
    each = allocation
    options: list[tuple[str, object]] = [
        ("job-name", name),
        ("output", _quoted(log_pattern(folder, is_array=each.is_array))),
        ("open-mode", "append"),
        ("signal", f"B:USR1@{notice(each)}"),
        ("nodes", each.nodes),
        ("ntasks", each.tasks),
        ("cpus-per-task", each.cpus),
        ("gpus-per-task", each.gpus),
        ("mem", each.memory),
        ("time", each.time),
        ("partition", each.partition),
        ("account", each.account),
        ("qos", each.qos),
    ]
    if each.is_array:
        options.append(("array", f"0-{each.elements - 1}" + (f"%{each.throttle}" if each.throttle else "")))
    lines = [f"--{option}={value}" for option, value in options if value is not None]
    return [*lines, "--no-kill", "--requeue" if each.requeue else "--no-requeue", *map(_extra, each.extra)]


def notice(allocation: Allocation) -> int:
    """Seconds before its end at which a job is told; a short one would else be told as soon as it starts."""
    limit = seconds(allocation.time)
    return NOTICE if limit is None else min(NOTICE, limit // 4)


def _extra(line: str) -> str:
    name, equals, value = line.partition("=")
    return f"{name}={_quoted(value)}" if equals else name


def _quoted(value: str) -> str:
    """For a line of #SBATCH, which is read by sbatch and not by a shell: quotes keep blanks, a backslash the rest."""
    if re.fullmatch(r"[A-Za-z0-9_./:,=%@+-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _assigned(pair: str) -> str:
    name, _, value = pair.partition("=")
    return f"{name}={shlex.quote(value)}"


_SEEN = """\
if [ ! -r "$run/manifest.json" ]; then
  echo "tokenmill: $run isn't there on $(hostname); keep runs in a folder that all nodes see (--runs-dir)" >&2
  exit 2
fi"""

_BODY = """
# One rank for each task. A rank that dies is started again where it was. Of what sbatch was told of processors, srun
# takes nothing over by itself.
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
srun --no-kill --kill-on-bad-exit=0 --wait=0 --overlap --input=none --unbuffered sh -c '
  trap "" TERM
  trap "exit 1" USR2
  try=0
  while [ $try -lt {tries} ]; do "$@" && {well}; try=$((try + 1)); sleep 1; done
  exit 1' rank {command} tokenmill.launch.rank &
ranks=$!
export {variable}="$ranks $(readlink /proc/$$/ns/pid)"

# The driver, or whoever stands by for it. USR1 says that the time is nearly over, TERM that the job is cancelled.
{command} tokenmill.launch.slurm.element "$run" </dev/null &
element=$!
ended_by=
trap 'told=1; ended_by=USR1; kill -TERM $element 2>/dev/null' USR1
trap 'told=1; ended_by=TERM; kill -TERM $element 2>/dev/null' TERM
told=1
while [ $told = 1 ]; do told=0; wait $element; code=$?; done  # a signal interrupts the waiting, not the element

# Ranks have been told to leave. For one on a lost node srun would wait until SLURM has noticed the loss.
for look in 1 2 3 4 5 6 7 8 9 10; do
  kill -USR2 $ranks 2>/dev/null || break
  sleep 0.3
done
kill -KILL $ranks 2>/dev/null
if [ $code = 4 ] && [ "$ended_by" = USR1 ]; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 60  # which is cut short: an end of its own would look like a failure
fi{rest}
exit $code
"""

#: A rank that was told to leave is done, but in an array: another element may drive from now on.
_NEXT = "{ sleep 1; continue; }"
#: The run is over: what still waits in the array has nothing to do.
_REST = """
if [ $code = 0 ] || [ $code = 3 ]; then scancel --quiet --state=PENDING "$SLURM_ARRAY_JOB_ID"; fi"""
