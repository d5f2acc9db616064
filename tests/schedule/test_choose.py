from __future__ import annotations

import pytest

from tokenmill.errors import UsageError
from tokenmill.schedule import make


@pytest.mark.parametrize(
    ("strategy", "order", "text"),
    [
        ("stealling", "file", "unknown strategy 'stealling'; did you mean 'stealing'? known: sequential, static, "),
        ("xyz", "file", "unknown strategy 'xyz'; known: sequential, static, stealing, pull, auto"),
        (
            "pull",
            "longest",
            "unknown order 'longest'; did you mean 'longest-first'? known: file, longest-first, packed",
        ),
    ],
)
def test_an_unknown_name_is_explained(strategy: str, order: str, text: str) -> None:
    """The error names the value, the nearest known name and all known ones."""
    with pytest.raises(UsageError) as caught:
        make(strategy, order)

    assert text in str(caught.value)


def test_only_static_deals_blocks() -> None:
    """Blocks with another strategy are refused, not ignored."""
    with pytest.raises(UsageError, match="'pull' deals no blocks"):
        make("pull", block_of=10)
