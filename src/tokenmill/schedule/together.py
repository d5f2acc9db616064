"""Uses several nodes on one device only where that was measured to be faster; see `trial` for how.

`Together` is a `Strategy` around another, to which it shows the nodes of a group that may work now, and the others
with no slots. It goes outside of `Limited`, so that each node is measured with as many requests as are good for it.
Nodes that share nothing are in no group and pass through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from tokenmill.event import (
    Action,
    Arrived,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    FirstToken,
    NodeLost,
    NodeUp,
    Paced,
    Resized,
)
from tokenmill.schedule.strategy import Strategy
from tokenmill.schedule.trial import Trial, TrialPolicy, Verdict


class Together:
    """Runs a `Trial` for each of the `groups`, which are node numbers that may share a device.

    `known`: verdicts from before, by group. `wholes`: nodes that have for themselves what their group shares.
    """

    def __init__(
        self,
        inner: Strategy,
        groups: Iterable[Sequence[int]],
        policy: TrialPolicy | None = None,
        known: Mapping[tuple[int, ...], Verdict] | None = None,
        wholes: Collection[int] = (),
    ) -> None:
        self.inner = inner
        self.trials = [
            Trial(
                group,
                policy,
                (known or {}).get(tuple(group)),
                whole=next((node for node in group if node in wholes), None),
            )
            for group in groups
            if len(group) > 1
        ]
        self._trial_of = {node: trial for trial in self.trials for node in trial.nodes}
        self._up: dict[int, tuple[int, int]] = {}  # what the driver says of the nodes in groups
        self._shown: dict[int, tuple[int, int]] = {}
        self._where: dict[int, Trial] = {}
        self._lengths: dict[int, float] = {}  # expected, of rows without an answer
        self._left = self._expected = self._answered = 0.0

    def on_event(self, event: Event, /) -> list[Action]:
        trial: Trial | None = None
        match event:
            case Arrived(row=row, length=length):
                self._left += length - self._lengths.get(row, 0.0)
                self._lengths[row] = length
            case NodeUp(node=node) | Resized(node=node) if node in self._trial_of:
                return self._changed(event)
            case NodeLost(node=node) if node in self._up:
                del self._up[node], self._shown[node]
                actions = self._forward(event)
                return actions + self._restrict(node, event.time)
            case FirstToken(row=row) if trial := self._where.get(row):
                trial.first_token(row, event.time)
            case Paced(row=row) if trial := self._where.get(row):
                trial.paced(row, event.time, event.chunks)
            case Finished(row=row) | Failed(row=row) | Cancelled(row=row):
                trial = self._end(row, event)
        actions = [] if trial is None else self._show(trial, event.time)
        return actions + self._forward(event)

    def _end(self, row: int, event: Finished | Failed | Cancelled) -> Trial | None:
        chunks = None
        if isinstance(event, Finished):
            chunks = float(event.answer.chunks or event.answer.output_tokens)
            length = self._lengths.pop(row, 0.0)
            self._left -= length
            self._expected += length
            self._answered += chunks
        trial = self._where.pop(row, None)
        if trial is not None:
            scale = self._answered / self._expected if self._expected else 1.0
            trial.ended(row, event.time, chunks, self._left * scale)
        return trial

    def _changed(self, event: NodeUp | Resized) -> list[Action]:
        node = event.node
        if isinstance(event, Resized) and node not in self._up:
            return []
        self._up[node] = (event.slots, event.look_ahead)
        if isinstance(event, NodeUp):
            self._shown[node] = shape = self._shape(node)
            actions = self._forward(replace(event, slots=shape[0], look_ahead=shape[1]))
            return actions + self._restrict(node, event.time)
        return self._restrict(node, event.time)

    def _restrict(self, node: int, time: float) -> list[Action]:
        """Tells the trial which of its nodes have slots; all that haven't come up yet may still."""
        trial = self._trial_of[node]
        usable = [one for one in trial.nodes if self._up.get(one, (0, 0))[0]]
        if usable:
            trial.restrict(usable)
        return self._show(trial, time)

    def _shape(self, node: int) -> tuple[int, int]:
        return self._up[node] if node in self._trial_of[node].active else (0, 0)

    def _show(self, trial: Trial, time: float) -> list[Action]:
        """Hides nodes before it shows others, so that a turn begins with what it is to measure."""
        actions: list[Action] = []
        changed = [node for node in trial.nodes if node in self._up and self._shape(node) != self._shown[node]]
        for node in sorted(changed, key=lambda node: self._shape(node)[0] > 0):
            self._shown[node] = self._shape(node)
            actions += self._forward(Resized(time, node, *self._shown[node]))
        return actions

    def _forward(self, event: Event) -> list[Action]:
        actions = self.inner.on_event(event)
        for action in actions:
            if isinstance(action, Dispatch) and (trial := self._trial_of.get(action.node)):
                self._where[action.row] = trial
                trial.sent(action.row, action.node, event.time)
        return actions
