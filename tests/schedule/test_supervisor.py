from __future__ import annotations

import pytest
from msgspec.structs import replace

from schedule.stories import arrive, cancelled, failed, finished, play, resized, sent, up
from schedule.supervising import PATIENT, started, supervised, wakes
from tokenmill.event import FINAL_KINDS, Dispatch, NodeLost, SetAside, WakeAt, Woke
from tokenmill.schedule import RetryPolicy

# Retries


def test_a_failed_row_comes_back_after_its_back_off() -> None:
    """A transient failure frees the place for another row, and the row is first in line once its wait is over."""
    strategy = started(supervised(), 3, 1)

    first = strategy.on_event(failed(0, time=10.0))
    [due] = wakes(first)
    woken = strategy.on_event(Woke(due))
    then = strategy.on_event(finished(1))

    assert sent(first) == [(1, 0)]
    assert 10.0 <= due <= 11.0
    assert woken == []
    assert sent(then) == [(0, 0)]


def test_attempts_are_limited() -> None:
    """After two retries the row is set aside with the kind and text of its last failure."""
    strategy = started(supervised(policy=RetryPolicy(retries=2)), 1, 1)
    for lease in (1, 2):
        [due] = wakes(strategy.on_event(failed(0, lease=lease)))
        assert sent(strategy.on_event(Woke(due + 1))) == [(0, 0)]

    last = strategy.on_event(failed(0, kind="timeout", lease=3))

    assert last == [SetAside(0, "timeout", "failed 3 times, last with: timeout: told so")]


@pytest.mark.parametrize("kind", FINAL_KINDS)
def test_a_final_failure_gets_no_retry(kind: str) -> None:
    """Kinds that can't succeed on another attempt set the row aside at once, with their message."""
    strategy = started(supervised(), 2, 1)

    assert strategy.on_event(failed(0, kind=kind)) == [SetAside(0, kind, "told so"), Dispatch(1, 0)]


def test_back_off_doubles_up_to_its_cap() -> None:
    """The wait is drawn from 0 to base * 2**n, and never above the cap."""
    policy = RetryPolicy(retries=9, base=1.0, cap=5.0, reserve=10_000)
    strategy = supervised(policy=policy)
    play(strategy, *arrive(*range(400)), up(0, slots=400))
    longest = []
    for lease in range(1, 6):
        for row in range(400):
            strategy.on_event(failed(row, lease=lease, time=0.0))
        longest.append(max(due for due, _ in strategy._retries))
        strategy.on_event(Woke(10.0))

    assert longest == pytest.approx([1, 2, 4, 5, 5], rel=0.05)
    assert all(wait <= cap for wait, cap in zip(longest, [1, 2, 4, 5, 5], strict=True))


def test_the_seed_decides_the_waits() -> None:
    """The same seed draws the same back-off, another seed another."""
    dues = [wakes(started(supervised(seed=seed), 1, 1).on_event(failed(0))) for seed in (1, 1, 2)]

    assert dues[0] == dues[1] != dues[2]


def test_a_retry_waits_until_the_purse_pays_for_it() -> None:
    """Beyond the reserve, retries are a share of the answers: a storm makes rows wait instead of doubling the load."""
    strategy = started(supervised(policy=RetryPolicy(reserve=3, share=0.5, cap=300.0)), 40, 3)
    play(strategy, *[failed(row, time=0.0) for row in range(5)])

    first = strategy.on_event(Woke(5.0))
    waiting = {row for _, row in strategy._retries}
    assert len(waiting) == 2
    assert not any(isinstance(action, SetAside) for action in first)
    assert 90 <= wakes(first)[0] <= 110
    then = play(strategy, finished(5, time=6.0), finished(6, time=6.0))
    assert [{row for row, _ in sent(each)} <= waiting for each in then] == [False, True]


def test_time_alone_fills_the_purse() -> None:
    """When nothing is answered, as many retries as there are slots become possible within one cap of the back-off."""
    strategy = started(supervised(policy=RetryPolicy(reserve=1, cap=60.0, retries=9)), 20, 20)
    play(strategy, *[failed(row, time=0.0) for row in range(20)])
    strategy.on_event(Woke(1.0))
    play(strategy, *[failed(row, lease=2, time=1.0) for row in range(20)])

    actions = play(strategy, Woke(31.0), Woke(61.0))

    assert [len(sent(each)) for each in actions] == [10, 10]


def test_the_purse_holds_a_retry_for_every_slot() -> None:
    """When everything in flight fails at once, each row may be retried as soon as its back-off is over."""
    strategy = started(supervised(policy=RetryPolicy(reserve=1, base=1.0)), 20, 20)
    play(strategy, *[failed(row, time=0.0) for row in range(20)])

    assert len(sent(strategy.on_event(Woke(1.0)))) == 20


def test_a_failure_laid_on_the_node_costs_no_attempt() -> None:
    """Such failures don't count, as often as they are pardoned; then the row pays for them like for its own."""
    strategy = started(supervised(policy=RetryPolicy(retries=0, pardons=2, base=0.0)), 1, 1)
    actions = []
    for lease in (1, 2, 3):
        actions.append(strategy.on_event(replace(failed(0, lease=lease, time=float(lease)), node_at_fault=True)))
        strategy.on_event(Woke(float(lease)))

    assert not any(isinstance(action, SetAside) for each in actions[:2] for action in each)
    assert actions[2] == [SetAside(0, "transient", "failed 3 times, last with: transient: told so")]


def test_suspects_wait_while_their_node_rests() -> None:
    """A node without slots gets no suspect; when its rest is longer than patience, they move to another node."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(8)), up(0, slots=2), up(1))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), up(0, slots=2, time=2.0))
    rests = play(strategy, resized(0, 0, time=3.0), cancelled(0, lease=2, time=3.0))
    moved = play(strategy, Woke(34.0), finished(2, 1, time=35.0))

    assert [sent(each) for each in rests] == [[], []]
    assert [sent(each) for each in moved] == [[], [(0, 1)]]


def test_suspects_go_on_when_their_node_is_back() -> None:
    """A node with suspects that rested gives its first place to a suspect."""
    strategy = started(supervised(), 4, 2)
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), up(0, slots=2, time=2.0))
    play(strategy, resized(0, 0, time=3.0), cancelled(0, lease=2, time=3.0))

    assert sent(strategy.on_event(resized(0, 1, time=5.0))) == [(0, 0)]


def test_one_wake_up_at_a_time() -> None:
    """A wake-up is asked for only if none that is as early was, and somebody else's isn't taken for it."""
    strategy = started(supervised(seed=4), 9, 3)
    dues = [wakes(strategy.on_event(failed(row, time=0.0))) for row in range(3)]
    earliest = min(due for due, _ in strategy._retries)

    asked = [due for each in dues for due in each]
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == earliest
    assert strategy.on_event(Woke(earliest / 2)) == []


def test_a_late_answer_of_an_old_lease_is_void() -> None:
    """An attempt that was given up can't end the next one, nor free its place."""
    strategy = started(supervised(), 2, 1)
    [due] = wakes(strategy.on_event(failed(0, kind="timeout")))
    play(strategy, finished(1), Woke(due + 1))

    assert strategy.on_event(finished(0, lease=1)) == []
    strategy.on_event(arrive(5)[0])
    assert sent(strategy.on_event(finished(0, lease=2))) == [(5, 0)]
    assert strategy.on_event(finished(0, lease=2)) == []


def test_a_cancelled_row_keeps_its_place() -> None:
    """A cancelled row is as if it had not been sent: first of those that wait, and not charged."""
    strategy = started(supervised(), 3, 1)

    assert [sent(strategy.on_event(cancelled(row))) for row in (0, 1)] == [[(1, 0)], [(0, 0)]]
    for lease in range(2, 6):
        other = sent(strategy.on_event(cancelled(0, lease=lease)))
        assert sent(strategy.on_event(cancelled(other[0][0], lease=lease))) == [(0, 0)]


def test_a_cancelled_row_goes_to_a_free_place_elsewhere() -> None:
    """A row that is cancelled on a node which rests may run at once on another, and holds one place there."""
    strategy = supervised()
    play(strategy, *arrive(0, 1, 2), up(0), up(1, slots=2), resized(0, 0), *arrive(3, 4))

    then = play(strategy, finished(1, 1), cancelled(0, 0), finished(2, 1), finished(3, 1))

    assert [sent(each) for each in then] == [[(3, 1)], [], [(0, 1)], [(4, 1)]]


# Crashes


def test_a_crash_makes_suspects_that_run_alone() -> None:
    """After a crash the rows that were in flight run one at a time; then the node takes all its slots again."""
    strategy = started(supervised(), 6, 3)
    crash = play(strategy, *[failed(row, kind="crash") for row in range(3)], NodeLost(1.0, 0))
    alone = play(strategy, up(0, slots=3, time=2.0), finished(0, lease=2), finished(1, lease=2), finished(2, lease=2))

    assert crash == [[], [], [], [WakeAt(121.0)]]
    assert [sent(each) for each in alone] == [[(0, 0)], [(1, 0)], [(2, 0)], [(3, 0), (4, 0), (5, 0)]]


def test_three_crashes_alone_make_poison() -> None:
    """A row alone in flight at three crashes is set aside; the first of all counts if it was alone then."""
    strategy = started(supervised(), 2, 1)
    for lease in (1, 2):
        play(strategy, failed(0, kind="crash", lease=lease), NodeLost(1.0, 0))
        assert sent(strategy.on_event(up(0))) == [(0, 0)]

    last = strategy.on_event(failed(0, kind="crash", lease=3))

    assert last == [SetAside(0, "poison", "ended the engine's process 3 times, each time alone")]
    assert sent(play(strategy, NodeLost(1.0, 0), up(0))[1]) == [(1, 0)]


def test_a_crash_in_company_charges_nobody() -> None:
    """However often a row is in flight at a crash together with others, it isn't set aside for that."""
    strategy = supervised(policy=RetryPolicy(retries=100))
    play(strategy, *arrive(0, 1), up(0, slots=2))
    for lease in range(1, 20, 2):
        crash = play(strategy, *[failed(row, kind="crash", lease=lease) for row in (0, 1)], NodeLost(1.0, 0))
        alone = play(strategy, up(0, slots=2), *[failed(row, lease=lease + 1) for row in (0, 1)])
        together = strategy.on_event(Woke(100.0))

        assert not any(isinstance(action, SetAside) for each in (*crash, *alone) for action in each)
        assert [sent(each) for each in alone] == [[(0, 0)], [(1, 0)], []]
        assert sorted(sent(together)) == [(0, 0), (1, 0)]


def test_a_suspect_that_ends_otherwise_is_cleared() -> None:
    """A suspect that fails alone without a crash is retried like any row, among others."""
    strategy = started(supervised(), 4, 2)
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), up(0, slots=2))

    actions = strategy.on_event(failed(0, lease=2, time=3.0))
    assert sent(actions) == [(1, 0)]
    woken = strategy.on_event(Woke(5.0))
    then = strategy.on_event(finished(1, lease=2, time=6.0))

    assert woken == []
    assert sent(then) == [(0, 0), (2, 0)]


def test_other_nodes_go_on_while_one_has_suspects() -> None:
    """A crash on one node doesn't slow the others, and nothing new goes to the node with suspects."""
    strategy = supervised()
    play(strategy, *arrive(*range(9)), up(0, slots=2), up(1))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0))

    assert sent(strategy.on_event(finished(2, 1))) == [(3, 1)]
    assert sent(strategy.on_event(up(0, slots=2))) == [(0, 0)]
    assert sent(strategy.on_event(finished(3, 1))) == [(4, 1)]


def test_suspects_of_a_node_that_stays_lost_move() -> None:
    """When patience is over, another node is drained and runs the suspects alone before anything else."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(8)), up(0, slots=2), up(1, slots=2))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0))

    woken = strategy.on_event(Woke(31.0))
    story = [finished(2, 1), finished(3, 1), finished(0, 1, lease=2), finished(1, 1, lease=2)]
    then = play(strategy, *story)

    assert woken == []
    assert [sent(each) for each in then] == [[], [(0, 1)], [(1, 1)], [(4, 1), (5, 1)]]


def test_suspects_without_any_node_wait_for_the_next() -> None:
    """When no node is up at the end of patience, whichever comes up next runs the suspects first."""
    strategy = started(supervised(policy=PATIENT), 4, 2)
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), Woke(31.0))

    assert sent(strategy.on_event(up(5, slots=2, time=40.0))) == [(0, 5)]
    assert sent(strategy.on_event(up(6, slots=2, time=41.0))) == [(2, 6), (3, 6)]


def test_suspects_without_any_node_go_to_the_first_that_is_back() -> None:
    """When all nodes rest at the end of patience, the first that has slots again runs the suspects at once."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(6)), up(0, slots=2), up(1))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), resized(1, 0))
    play(strategy, cancelled(2, 1, time=2.0), Woke(31.0))

    back = play(strategy, resized(1, 2, time=40.0), finished(0, 1, lease=2, time=41.0))
    assert [sent(each) for each in back] == [[(0, 1)], [(1, 1)]]
    assert sent(strategy.on_event(finished(1, 1, lease=2, time=42.0))) == [(2, 1), (3, 1)]
    assert sent(strategy.on_event(up(0, slots=2, time=43.0))) == [(4, 0), (5, 0)]


def test_suspects_that_have_moved_stay_away() -> None:
    """A node that comes back after its suspects went to another has none any more."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(8)), up(0, slots=2), up(1))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0), Woke(31.0))

    assert sent(strategy.on_event(up(0, slots=2, time=32.0))) == [(3, 0), (4, 0)]


def test_suspects_move_on_from_a_node_that_goes_to_rest_while_it_is_drained() -> None:
    """The node that suspects moved to may rest before their turn comes; then they move again."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(4)), up(0), up(1), up(2))
    play(strategy, failed(0, kind="crash"), NodeLost(1.0, 0), Woke(31.0))
    rests = play(strategy, resized(1, 0, time=32.0), finished(1, 1, time=33.0), finished(2, 2, time=33.0))
    ends = play(strategy, finished(3, 2, time=34.0))

    assert [sent(each) for each in (*rests, *ends)] == [[], [], [(3, 2)], []]
    assert sent(strategy.on_event(Woke(62.0))) == [(0, 2)]


def test_a_suspect_given_back_by_a_resting_node_moves() -> None:
    """A suspect that was alone in flight when its node went to rest doesn't wait for that node for ever."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(0, 1), up(0), up(1))
    play(strategy, failed(0, kind="crash"), NodeLost(1.0, 0), up(0, time=2.0))
    play(strategy, resized(0, 0, time=3.0), cancelled(0, lease=2, time=3.0), finished(1, 1, time=4.0))

    assert sent(strategy.on_event(Woke(34.0))) == [(0, 1)]


def test_a_new_loss_restarts_patience() -> None:
    """The wait counts from the latest loss of the node, not from an earlier one."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(4)), up(0, slots=2), up(1))
    play(strategy, failed(0, kind="crash"), failed(1, kind="crash"), NodeLost(1.0, 0))
    play(strategy, up(0, slots=2, time=20.0), failed(0, kind="transient", lease=2, time=21.0))
    play(strategy, failed(1, kind="crash", lease=2, time=22.0), NodeLost(22.0, 0))

    early = play(strategy, Woke(31.0), finished(2, 1, time=32.0))
    late = play(strategy, Woke(52.0), finished(0, 1, lease=3, time=53.0))

    assert [sent(each) for each in early] == [[], [(0, 1)]]
    assert [sent(each) for each in late] == [[], [(1, 1)]]


def test_each_loss_has_its_own_deadline() -> None:
    """The deadline of an earlier loss doesn't move suspects of a later one, though another node's comes before it."""
    strategy = supervised(policy=PATIENT)
    play(strategy, *arrive(*range(9)), up(0), up(1), up(2))
    play(strategy, failed(1, 1, kind="crash", time=0.0), NodeLost(0.0, 1))
    play(strategy, failed(0, 0, kind="crash", time=1.0), NodeLost(1.0, 0), up(0, time=20.0))
    play(strategy, failed(0, 0, kind="crash", lease=2, time=22.0), NodeLost(22.0, 0))

    moved = play(strategy, Woke(31.0), finished(2, 2), finished(1, 2, lease=2))

    assert [sent(each) for each in moved] == [[], [(1, 2)], [(3, 2)]]


def test_a_crash_reported_after_the_loss_still_makes_a_suspect() -> None:
    """A row sent to a node just before its loss was known runs alone once its crash is reported."""
    strategy = started(supervised(), 3, 1)
    play(strategy, NodeLost(1.0, 0))
    strategy.on_event(failed(0, kind="crash"))

    assert sent(strategy.on_event(up(0))) == [(0, 0)]
