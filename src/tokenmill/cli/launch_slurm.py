"""`tokenmill launch slurm`: a run as a job of a SLURM cluster, and what may be done with that job."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tokenmill.cli.launch import ADDRESS, PORT, SILENT, TP, TP_ENGINE, WORKERS, launched, taking
from tokenmill.cli.options import RUNS_DIR, Decorator
from tokenmill.cli.run import check_run
from tokenmill.cli.screen import line_for, say, tell
from tokenmill.cli.slurm_job import settled
from tokenmill.errors import UsageError
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.allocation import BETWEEN, CONTROL, parse_allocation
from tokenmill.launch.slurm.element import is_finished
from tokenmill.launch.slurm.job import Follower, Job, elements_of, live_job, name_of, noted_job
from tokenmill.launch.slurm.place import logs
from tokenmill.launch.slurm.script import write_script
from tokenmill.launch.slurm.state import Element
from tokenmill.launch.spec import VARIABLES, On, checked
from tokenmill.record.folder import find, runs_folder

#: Options that stand in the script as they are, with what they mean.
PLAIN = {
    "nodes": ("N", "Nodes of each job; default as SLURM sees fit."),
    "cpus": ("N", "Cores for each rank."),
    "gpus": ("N", "GPUs for each rank, such as 1 or a100:1."),
    "memory": ("SIZE", "Memory of each node, such as 64G."),
    "time": ("TIME", "Limit, such as 2:00:00; a run that isn't finished then goes on in the requeued job."),
    "partition": ("NAME", "Partition."),
    "account": ("NAME", "Account."),
    "qos": ("NAME", "Quality of service."),
    "array": ("N[%M]", "N jobs, at most M at a time; one drives, the workers of the others join as they start."),
    "container": ("LINE", "Words before each command, such as 'apptainer exec --nv image.sif'."),
    "python": ("PATH", "Interpreter on the nodes; default this one."),
}
SEVERAL = {
    "modules": ("--module", "NAME", "Load a module; may be given again."),
    VARIABLES: ("--env", "NAME=VALUE", "Set a variable; may be given again."),
    "setup": ("--setup", "LINE", "A line of shell that runs first; may be given again."),
    "extra": ("--extra", "OPTION", "An option of sbatch, such as --constraint=a100; may be given again."),
}


def _options() -> list[Decorator]:
    plain = [click.option(f"--{name}", metavar=kind, help=text) for name, (kind, text) in PLAIN.items()]
    several = [
        click.option(option, name, multiple=True, metavar=kind, help=text)
        for name, (option, kind, text) in SEVERAL.items()
    ]
    return [*plain, *several]


@click.command()
@taking(
    WORKERS,
    TP,
    TP_ENGINE,
    *_options(),
    click.option("--requeue/--no-requeue", default=True, help="Go back into the queue when nodes or time are lost."),
    click.option("--shared", is_flag=True, help="All nodes see the run folder, though it seems to be on a local disk."),
    click.option(
        "--interrupt", type=click.Choice(["detach", "cancel"]), help="What Ctrl-C does; default leave the job alone."
    ),
    click.option("--dry-run", is_flag=True, help="Print the script; submit nothing."),
    ADDRESS,
    PORT,
    SILENT,
    RUNS_DIR,
)
def command(arguments: tuple[str, ...], dry_run: bool, runs_dir: Path | None, **chosen: Any) -> None:
    """Submits a run as a SLURM job, follows it, and ends with its answers and exit code.

    The run folder must be one that all nodes see. In place of '-- run ARGS', 'follow RUN', 'cancel RUN', 'requeue RUN'
    and 'logs RUN' act on the job of a run, which --runs-dir helps to find; for '-- run' it stands behind that.

    \b
    Examples:
      tokenmill launch slurm --workers 4 --gpus 1 --time 2:00:00 -- run prompts.jsonl --model /data/model
      tokenmill launch slurm --workers 4 --dry-run -- run prompts.jsonl --model /data/model
      tokenmill launch slurm cancel last --runs-dir /data/runs
    """
    if arguments and arguments[0] in VERBS:
        _act(runs_dir, *arguments)
        return
    if runs_dir is not None:
        raise UsageError(
            f"launch slurm --runs-dir {runs_dir} is for {', '.join(VERBS)}; of what is launched it is an option like "
            "any other: write it behind the --, after 'run' or 'resume'"
        )
    on = _on(chosen)
    if dry_run:
        _show_script(on, arguments)
        return
    launched(on, arguments)


def _on(chosen: dict[str, Any]) -> On:
    given = {name: chosen.pop(name) for name in (*PLAIN, "interrupt")}
    options: dict[str, str] = {name: value for name, value in given.items() if value is not None}
    for name in SEVERAL:
        if values := chosen.pop(name):
            options[name] = BETWEEN.join(_one_line(name, value) for value in values)
    options |= {"requeue": "yes"} if chosen.pop("requeue") else {"requeue": "no"}
    options |= {"shared": "yes"} if chosen.pop("shared") else {}
    return settled(On(kind="slurm", options=options, **chosen))


def _one_line(name: str, value: str) -> str:
    option, kind, _ = SEVERAL[name]
    if not value.strip() or CONTROL.search(value):
        shown = value.partition("=")[0] if name == VARIABLES else value
        raise UsageError(f"slurm: {option} {shown!a} can't be used; write {kind} in one line")
    return value


def _show_script(on: On, arguments: tuple[str, ...]) -> None:
    """On stdout, for the folder that the run would have, once the run's own options and input are checked."""
    name, *rest = arguments or ("run",)
    if name != "run":
        raise UsageError(f"launch slurm --dry-run shows what a run would submit; write -- run ARGS, not {name!r}")
    behind: click.Command = importlib.import_module("tokenmill.cli.run").command
    allocation = parse_allocation(checked(on).options, on.ranks)
    context = behind.make_context("tokenmill launch slurm -- run", list(rest), obj=on)
    with context.scope():
        check_run(context.params)
    runs = runs_folder(context.params["runs_dir"])
    folder = runs.absolute() / (context.params["run_id"] or "RUN")
    say(write_script(folder, name_of(folder.name), allocation, on.tp).rstrip("\n"))


def _act(runs_dir: Path | None, verb: str, *rest: str) -> None:
    if len(rest) > 1:
        raise UsageError(f"launch slurm {verb}: takes one run, an id, a folder or 'last'")
    folder = find(runs_folder(runs_dir), rest[0] if rest else "last")
    job = noted_job(folder)
    if job is None:
        raise UsageError(f"{folder}: no job was submitted for this run; submit one with 'tokenmill launch slurm'")
    VERBS[verb](folder, job)


def _follow(folder: Path, job: Job) -> None:
    """To the end of the job and not further; of a finished run it collects the answers."""
    from tokenmill.cli.carry_out import carry_out

    if live_job(folder) is None and not is_finished(folder):
        raise UsageError(f"job {job.number} has ended and the run hasn't; go on with: {line_for('resume', folder)}")
    carry_out(folder, None, as_json=False, quiet=False)


def _cancel(folder: Path, job: Job) -> None:
    found = _known(folder, job)
    if all(each.is_over for each in found):
        tell(f"tokenmill: job {job.number} had ended ({Follower.describe(found)}); nothing to cancel")
        return
    commands.cancel(job.number)
    tell(f"tokenmill: job {job.number} was cancelled; its answers are kept; go on with: {line_for('resume', folder)}")


def _requeue(folder: Path, job: Job) -> None:
    _known(folder, job)
    if is_finished(folder):
        raise UsageError(f"every request of this run has its answer, so job {job.number} has nothing left to do")
    try:
        commands.requeue(job.number)
    except commands.SlurmSilent as error:
        raise UsageError(f"{error}; if job {job.number} has ended: {line_for('resume', folder)}") from error
    tell(f"tokenmill: job {job.number} is back in the queue, and resumes from its record")


def _known(folder: Path, job: Job) -> list[Element]:
    """The job as it is; raises `UsageError` where SLURM doesn't know it."""
    found = elements_of(job)
    if not found:
        raise UsageError(
            f"SLURM doesn't know job {job.number} of this run, or has forgotten it; submit another with: "
            f"{line_for('resume', folder)}"
        )
    return found


def _logs(folder: Path, job: Job) -> None:
    if not logs(folder):
        state = Follower.describe(elements_of(job)) or "unknown to SLURM"
        tell(f"tokenmill: job {job.number} has written no log yet; it is {state}")
    for log in logs(folder):
        tell(f"--- {log}")
        say(log.read_text(encoding="utf-8", errors="replace").rstrip("\n"))


VERBS: dict[str, Callable[[Path, Job], None]] = {
    "follow": _follow,
    "cancel": _cancel,
    "requeue": _requeue,
    "logs": _logs,
}
