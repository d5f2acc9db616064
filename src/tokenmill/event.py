"""What happened, and what to do about it: the language between driver, strategies, record and report.

Times are float seconds on the run's clock. `row` is the row number of the request, `node` the index of the node,
`lease` the number of the attempt on that row: an event of an older lease than the row's current one is void.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.request import RateSeen, Usage

#: Failure classes. The first group may succeed on another attempt, the second can't. The third says nothing of the row:
#: the node could not be reached, was busy, or can't serve this run at all. It costs the row no attempt.
RETRYABLE_KINDS = ("crash", "transient", "timeout")
FINAL_KINDS = ("too_long", "refused", "empty", "repetition", "length", "filtered", "cut", "poison")
NODE_KINDS = ("unreachable", "busy", "misconfigured")
FAILURE_KINDS = RETRYABLE_KINDS + FINAL_KINDS + NODE_KINDS


#: Prompts of this many wordings, numbered from 0, are told apart within `Arrived.group`.
WORDINGS = 65


def group_of(prefix: int, wording: int) -> int:
    """A group as one number: that of the wording, or a negative one if the prompt has a long beginning as well."""
    return -(prefix * WORDINGS + wording) if prefix else wording


def prefix_of(group: int) -> int:
    """The number of the long beginning that prompts of this group share, 0 if there is none."""
    return -group // WORDINGS if group < 0 else 0


class Arrived(Struct, frozen=True):
    """A row is there to be answered; `length` is its predicted output in tokens, `group` its template.

    Rows of a group begin alike if its number is negative; `prefix_of` tells which groups share a beginning.
    """

    time: float
    row: int
    length: float = 1.0
    group: int = 0


class Dispatched(Struct, frozen=True):
    """A row was handed to a node."""

    time: float
    row: int
    node: int
    lease: int


class FirstToken(Struct, frozen=True):
    """The first non-empty text of an attempt arrived."""

    time: float
    row: int
    node: int
    lease: int


class Paced(Struct, frozen=True):
    """An attempt has so many chunks by now: 2, and then each doubling of it.

    A few events for each answer, however long, tell how fast a node is long before it has finished one. They aren't
    recorded.
    """

    time: float
    row: int
    node: int
    lease: int
    chunks: int


class Answer(Struct, frozen=True, kw_only=True):
    """A finished answer with what was measured while it came.

    `itl_sum`, `itl_max`: summed and largest gap between chunks, seconds. `width_mean`, `width_max`: sequences in
    the forward passes that made it, 0 when the engine doesn't say. `chunks`: messages it came in.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    flags: tuple[str, ...] = ()
    first_token: float | None = None
    itl_sum: float = 0.0
    itl_max: float = 0.0
    chunks: int = 0
    width_mean: float = 0.0
    width_max: int = 0
    rate: RateSeen | None = None


class Finished(Struct, frozen=True):
    """An attempt ended with an answer."""

    time: float
    row: int
    node: int
    lease: int
    answer: Answer


class Failed(Struct, frozen=True):
    """An attempt ended without an answer; `kind` is one of FAILURE_KINDS.

    `retry_after`: seconds for which the node asked to be left alone, None if it didn't. `node_at_fault`: the strategy
    that watches the nodes found that this one fails whatever it is sent, so the row shouldn't pay. `used`: tokens that
    the attempt cost all the same, as far as is known; None if nobody can say.
    """

    time: float
    row: int
    node: int
    lease: int
    kind: str
    message: str = ""
    retry_after: float | None = None
    node_at_fault: bool = False
    used: Usage | None = None


class Cancelled(Struct, frozen=True):
    """An attempt was ended by us; the row is as if it had not been sent. `used` as in `Failed`."""

    time: float
    row: int
    node: int
    lease: int
    used: Usage | None = None


class NodeUp(Struct, frozen=True):
    """A node can take `slots` requests at the same time, and `look_ahead` more to queue.

    `priority`: nodes with a smaller one are to be used first. `gpu`: it is known to compute on a GPU.
    """

    time: float
    node: int
    slots: int
    look_ahead: int = 0
    priority: int = 0
    gpu: bool = False


class Resized(Struct, frozen=True):
    """A node that is up can take another number of requests from now on; 0 slots: none for the time being.

    What runs there goes on. While more runs there than `slots + look_ahead`, it gets nothing new.
    """

    time: float
    node: int
    slots: int
    look_ahead: int = 0


class Probed(Struct, frozen=True):
    """What came of a `Probe`: `kind` is empty if a token came, else the class of the failure."""

    time: float
    node: int
    kind: str = ""
    message: str = ""
    retry_after: float | None = None


class NodeLost(Struct, frozen=True):
    """A node is gone. Each of its rows in flight has its own `Failed` event, before this one."""

    time: float
    node: int


class Woke(Struct, frozen=True):
    """The moment asked for by a `WakeAt` has come."""

    time: float


Event = (
    Arrived
    | Dispatched
    | FirstToken
    | Paced
    | Finished
    | Failed
    | Cancelled
    | NodeUp
    | Resized
    | Probed
    | NodeLost
    | Woke
)

#: Of attempts: what they are doing, and how they end. Tuples, because the hot path asks for each event.
PROGRESS = (FirstToken, Paced)
ENDS = (Finished, Failed, Cancelled)


class Dispatch(Struct, frozen=True):
    """Send a row to a node."""

    row: int
    node: int


class Cancel(Struct, frozen=True):
    """End the running attempt of a row."""

    row: int


class WakeAt(Struct, frozen=True):
    """Send a `Woke` event at this time."""

    time: float


class SetAside(Struct, frozen=True):
    """A row gets no further attempt; its failure is final, with this kind and reason."""

    row: int
    kind: str
    reason: str


class Probe(Struct, frozen=True):
    """Ask a node for one token, and send a `Probed` event with what came of it."""

    node: int


class Stop(Struct, frozen=True):
    """Send nothing more and end the run, which can be resumed; `reason` is told to the user."""

    reason: str


Action = Dispatch | Cancel | WakeAt | SetAside | Probe | Stop


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of one request as the record keeps it; what the report is computed from.

    `outcome` is `answered`, `failed`, `cancelled` or `lost` (in flight when the driver died). `session` counts the
    starts of the run (0 for the first), as each has its own clock. The tokens of an attempt without an answer are what
    it is likely to have cost.
    """

    row: int
    lease: int
    node: int
    session: int
    outcome: str
    dispatched: float
    finished: float
    first_token: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    itl_sum: float = 0.0
    itl_max: float = 0.0
    chunks: int = 0
    width_mean: float = 0.0
    width_max: int = 0
    kind: str = ""
