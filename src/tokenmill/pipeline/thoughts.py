"""What an answer says beside what its model thought, which stands between marks; the first may be in the prompt."""

from __future__ import annotations

import re

_MARK = re.compile(r"<(/?)(think|thinking)>", re.IGNORECASE)


def without_thoughts(answer: str) -> str | None:
    """The answer alone; None if it ends inside its thoughts.

    Templates of models that think write the opening mark into the prompt, so an end without a beginning closes thoughts
    that began before the answer. Each mark is looked at once, as an answer may be nothing but marks.
    """
    said: list[str] = []
    begin, thinks = 0, ""
    for mark in _MARK.finditer(answer):
        name = mark[2].casefold()
        if mark[1] and thinks in ("", name):
            said = said if thinks else []
            begin, thinks = mark.end(), ""
        elif not mark[1] and not thinks:
            said.append(answer[begin : mark.start()])
            thinks = name
    return None if thinks else "".join([*said, answer[begin:]])
