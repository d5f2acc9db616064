"""Requests and tokens a minute, in virtual time."""

from __future__ import annotations

import pytest

from tokenmill.testing.allowance import Allowances, spelled


def test_a_minute_holds_so_many_requests() -> None:
    """The requests of a minute may come at once; the next must wait until one is allowed again."""
    limits = Allowances(3, None, 0.0)
    assert [limits.take(0.0, 10) for _ in range(4)] == [0, 0, 0, 20]
    assert limits.take(19.0, 10) == pytest.approx(1)
    assert limits.take(20.0, 10) == 0


def test_tokens_count_too() -> None:
    """A request that isn't allowed uses nothing, and one larger than a minute's worth passes a full bucket."""
    limits = Allowances(None, 100, 0.0)
    assert limits.take(0.0, 90) == 0
    assert limits.take(0.0, 40) == 18
    assert limits.take(0.0, 10) == 0
    assert limits.take(60.0, 1000) == 0


def test_headers_tell_what_is_left() -> None:
    """Limit, rest and reset are told in the words of hosted APIs."""
    limits = Allowances(60, None, 0.0)
    limits.take(0.0, 1)
    limits.take(0.0, 1)
    assert dict(limits.headers(0.0)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "2s",
    }
    assert [spelled(0.12), spelled(1.5), spelled(360)] == ["120ms", "1.5s", "6m0s"]
    assert not Allowances(None, None, 0.0)
