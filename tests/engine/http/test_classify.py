"""Statuses and error objects become failure classes, and Retry-After becomes seconds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.engine.http.classify import TOLD, fault_of_object, fault_of_status, presentable, read_error, rest_of
from tokenmill.event import FAILURE_KINDS

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC

STATUSES = {
    "busy": (429, 503),
    "transient": (408, 409, 425, 499, 500, 502, 504, 529, 599, 204, 206, 100),
    "too_long": (413,),
    "refused": (400, 406, 415, 422, 431),
    "misconfigured": (301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407, 410),
}


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, each in STATUSES.items() for status in each])
def test_a_status_has_a_class(kind: str, status: int) -> None:
    """Each status without further words has the class that says who pays for it."""
    assert fault_of_status(status, b"", None).kind == kind


OVERFLOWS = [
    {"error": {"message": "too much", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    {"error": {"code": 400, "message": "the request exceeds the available context size", "n_ctx": 4096}},
    {"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}},
    {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
    {"error": {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."}},
    {"error": "the input length exceeds the context length"},
    {"error": "prompt too long; exceeded max context length by 12 tokens"},
]


@pytest.mark.parametrize("body", OVERFLOWS)
def test_an_overflow_is_too_long(body: dict[str, object]) -> None:
    """All spellings of a prompt that doesn't fit are final, as a status and inside a 200."""
    assert fault_of_status(400, msgspec.json.encode(body), None).kind == "too_long"
    assert fault_of_object(body.get("error", body)).kind == "too_long"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("server busy, please try again.  maximum pending requests exceeded", "busy"),
        ({"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}, "busy"),
        ({"message": "overloaded", "type": "overloaded_error"}, "busy"),
        ({"message": "no", "code": 503}, "busy"),
        ({"message": "no", "code": "insufficient_quota"}, "misconfigured"),
        ({"message": "Incorrect API key provided", "code": "invalid_api_key"}, "misconfigured"),
        ('model "x" not found, try pulling it first', "misconfigured"),
        ({"message": "no", "type": "invalid_request_error"}, "refused"),
        ({"message": "no", "code": "content_filter"}, "filtered"),
        ("an error was encountered while running the model: CUDA error", "transient"),
        ({"message": None}, "transient"),
        ({}, "transient"),
        (None, "transient"),
        (7, "transient"),
    ],
)
def test_an_error_in_a_200_is_judged_by_its_words(error: object, kind: str) -> None:
    """An error object inside a 200 has the class of its code, else of its words, else it may pass."""
    assert fault_of_object(error).kind == kind


def test_no_quota_is_no_waiting() -> None:
    """A 429 that means an empty account stops the node; to wait wouldn't help."""
    body = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}

    assert fault_of_status(429, msgspec.json.encode(body), 1.0).kind == "misconfigured"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-1", 0.0),
        ("301", 300.0),
        ("9" * 5000, 300.0),
        ("Fri, 15 Jan 2027 08:00:20 GMT", 20.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2099 08:00:00 GMT", 300.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("1e9", None),
        ("7 s", None),
        ("Fri, 99 Jan 2027 08:00:20 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Seconds or a date, between 0 and 300; garbage is as if nothing were said."""
    assert rest_of(header, lambda: NOW) == seconds


@given(st.text(max_size=60))
def test_retry_after_takes_any_text(header: str) -> None:
    """No header raises, and what it gives is a sane wait."""
    rest = rest_of(header, lambda: NOW)

    assert rest is None or 0 <= rest <= 300


@given(
    st.integers(100, 999),
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.sampled_from(["error", "message", "code", "type"]), each),
    ).map(msgspec.json.encode),
)
def test_any_body_has_a_class(status: int, body: bytes) -> None:
    """Whatever a server sends with a status, the failure has a known class and a message."""
    fault = fault_of_status(status, body, None)

    assert fault.kind in FAILURE_KINDS
    assert f"{status}" in fault.message


def test_deep_json_is_no_crash() -> None:
    """An error body nested 100,000 deep is read as text."""
    assert read_error(b"[" * 100_000).message.startswith("[[")


def test_words_are_told_on_one_line() -> None:
    """Control and direction characters of a server don't reach a terminal, and a long text keeps its end."""
    assert presentable("a\x1b[31m\nb\u202ec\x00") == "a [31m b c"
    long = presentable("x" * 10_000 + " the way out")
    assert len(long) <= TOLD + 5
    assert long.endswith("the way out")
