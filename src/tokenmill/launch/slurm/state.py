"""What SLURM says of a job: the words of squeue, scontrol and sacct, read here and nowhere else.

An array is one job with several elements, each in a state of its own; elements that have not been split off yet are
one line for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

#: States in which a job may still do something; every other state is an end.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
WORKING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
#: What squeue is asked to print: a separator that no field holds.
SQUEUE_FORMAT = "%i|%T|%r|%N|%B|%j"
SACCT_FORMAT = "JobID,State,ExitCode,NodeList,JobName"

_FIELD = re.compile(r"(?:^| )([A-Za-z][A-Za-z0-9/:_]*)=")


class Element(Struct, frozen=True, kw_only=True):
    """A job, or an element of an array; `number` as SLURM writes it, such as 12, 12_3 or 12_[4-7].

    `name` is what its submitter called it, empty where that wasn't asked.
    `code` is what the script ended with, None if it isn't known; `signal` is what it was ended by, 0 for none.
    `first` is the node where the script runs.
    """

    number: str
    state: str
    name: str = ""
    reason: str = ""
    nodes: str = ""
    first: str = ""
    code: int | None = None
    signal: int = 0

    @property
    def is_over(self) -> bool:
        return self.state not in WAITING and self.state not in WORKING

    @property
    def has_lost_its_script(self) -> bool:
        """The node of the script is no part of the job any more: with it went whoever would end the job.

        SLURM (seen with 22.05) lets such a job run until its time is over.
        """
        return bool(self.state == "RUNNING" and self.first and self.nodes) and self.first not in expanded(self.nodes)

    def __str__(self) -> str:
        told = [self.state.lower().replace("_", " ")]
        if self.reason and self.reason != "None":
            told.append(f"({self.reason})")
        if self.nodes:
            told.append(f"on {self.nodes}")
        return " ".join(told)


def read_squeue(text: str) -> list[Element]:
    """Lines of `squeue -h -o SQUEUE_FORMAT`."""
    found = []
    for line in text.splitlines():
        number, state, reason, nodes, first, *name = (field.strip() for field in line.split("|", 5))
        first = "" if first == "n/a" else first
        found.append(Element(number=number, state=state, reason=reason, nodes=nodes, first=first, name="".join(name)))
    return found


def read_scontrol(text: str) -> list[Element]:
    """Lines of `scontrol show -o job`."""
    found = []
    for line in text.splitlines():
        fields = _fields(line)
        if "JobId" not in fields:
            continue
        code, _, signal = fields.get("ExitCode", "").partition(":")
        element = fields.get("ArrayTaskId")
        found.append(
            Element(
                number=fields["JobId"] if element is None else f"{fields['ArrayJobId']}_{_bracketed(element)}",
                state=fields.get("JobState", ""),
                name=fields.get("JobName", ""),
                reason=fields.get("Reason", ""),
                nodes="" if fields.get("NodeList") == "(null)" else fields.get("NodeList", ""),
                first=fields.get("BatchHost", ""),
                code=int(code) if code.isdigit() else None,
                signal=int(signal) if signal.isdigit() else 0,
            )
        )
    return found


def read_sacct(text: str) -> list[Element]:
    """Lines of `sacct -n -P -X -o SACCT_FORMAT`; `CANCELLED by 0` is the state CANCELLED."""
    found = []
    for line in text.splitlines():
        number, state, exit_code, nodes, *name = line.split("|", 4)
        code, _, signal = exit_code.partition(":")
        found.append(
            Element(
                number=number,
                state=state.partition(" ")[0],
                name="".join(name),
                nodes="" if nodes == "None assigned" else nodes,
                code=int(code) if code.isdigit() else None,
                signal=int(signal) if signal.isdigit() else 0,
            )
        )
    return found


def _fields(line: str) -> dict[str, str]:
    """NAME=VALUE with blanks between; a value may hold blanks and goes on to the next name."""
    places = list(_FIELD.finditer(line))
    ends = [place.start() for place in places[1:]] + [len(line)]
    return {place[1]: line[place.end() : end].strip() for place, end in zip(places, ends, strict=True)}


def _bracketed(element: str) -> str:
    return element if element.isdigit() else f"[{element}]"


def expanded(nodes: str) -> list[str]:
    """The names in a list of hosts: `n[1-3,07],login` is n1, n2, n3, n07 and login."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes):
        made = [""]
        for plain, inside in re.findall(r"([^\[]+)|\[([^\]]*)\]", part):
            made = [start + end for start in made for end in ([plain] if plain else _numbers(inside))]
        names += made
    return names


def _numbers(inside: str) -> Iterable[str]:
    for piece in inside.split(","):
        first, dash, last = piece.partition("-")
        if not dash:
            yield first
        else:
            yield from (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
