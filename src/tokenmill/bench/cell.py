"""A cell is one way to do the work; a reading is what doing it once came to."""

from __future__ import annotations

from msgspec import Struct

Factor = str | int | float


class Cell(Struct, frozen=True, kw_only=True):
    """One way to do the work, told from the others by its `factors`.

    Cells of one `group` do equal work on equal hardware and are compared with the group's baseline. `workers` is what
    efficiency is counted in: the number that is varied, in the suite's own unit. Cells of a later `stage` are measured
    when all repeats of the earlier ones are done, as they depend on what those showed.
    """

    group: str
    factors: dict[str, Factor]
    workers: float = 1.0
    is_baseline: bool = False
    stage: int = 0

    @property
    def key(self) -> str:
        """What the cell is called in files: its group and factors."""
        return " ".join([self.group, *(f"{name}={value}" for name, value in self.factors.items())]).strip()

    @property
    def title(self) -> str:
        return ", ".join(_counted(value, name) if isinstance(value, int) else str(value) for name, value in self.named)

    @property
    def named(self) -> list[tuple[str, Factor]]:
        return [(name, value) for name, value in self.factors.items() if value != ""]


def _counted(number: int, name: str) -> str:
    return f"{number} {name.removesuffix('s') if number == 1 else name}"


class Reading(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cell done once, in a process of its own.

    `seconds`: from the first request to the last answer, after `loading`. `digest`: of all answers by id, so that equal
    work can be told. `latencies` and `ttft`: seconds of each answered request. `bound`: seconds, None if unknown.
    `peak_rss`: bytes by process, from the kernel's high-water marks. `load`: the machine's load average before.
    `answers`: a digest of each answer by its id, where single ones are compared. `energy`: J, None with the reason in
    `missing`. `extra`: what only this suite measures. `cost`: what is compared, in seconds and less is better, where
    the time was given and the work was measured. `stories`: with a recipe, input rows by how they ended; the digest is
    then that of the data set. `fault`: why there is no reading.
    """

    cell: str
    repeat: int
    began: str = ""
    load: float | None = None
    wall: float = 0.0
    seconds: float = 0.0
    loading: float = 0.0
    requests: int = 0
    answered: int = 0
    failed: dict[str, int] = {}
    prompt_tokens: int = 0
    output_tokens: int = 0
    digest: str = ""
    answers: dict[str, str] = {}
    latencies: tuple[float, ...] = ()
    ttft: tuple[float, ...] = ()
    bound: float | None = None
    overlap: float | None = None
    width: float | None = None
    audit: str = ""
    reason: str = ""
    advice: tuple[str, ...] = ()
    peak_rss: dict[str, int] = {}
    cpu: float = 0.0
    energy: float | None = None
    missing: dict[str, str] = {}
    extra: dict[str, float] = {}
    cost: float | None = None
    notes: tuple[str, ...] = ()
    stories: dict[str, int] = {}
    fault: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all requests were answered, or all stories ended, so that its time may be compared."""
        if self.stories:
            return not self.fault and "unfinished" not in self.stories
        return not self.fault and self.requests > 0 and self.answered == self.requests

    @property
    def units(self) -> tuple[int, int]:
        """What success is counted in, how many were asked for and how many came: input rows of a recipe, or requests.

        With a recipe a row has succeeded if every target is met.
        """
        if self.stories:
            return sum(self.stories.values()), self.stories.get("success", 0)
        return self.requests, self.answered

    @property
    def compared(self) -> float:
        """What readings are compared by, in seconds: those of equal work, or the cost of a part of it."""
        return self.seconds if self.cost is None else self.cost
