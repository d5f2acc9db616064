"""Lines of the OpenAI batch format: `custom_id`, `method`, `url`, `body`."""

from __future__ import annotations

from tokenmill.workload.faults import RowFault, shown
from tokenmill.workload.options import CHECKS, UNSUPPORTED, check_supported, misspelt

#: Endpoints, and the field of the body that each needs.
URLS = {"/v1/chat/completions": "messages", "/v1/completions": "prompt"}
COMPLETIONS = "/v1/completions"
_OUTER = frozenset({"custom_id", "method", "url", "body"})
_BODY = frozenset({*CHECKS, "model", "messages", "prompt"})
#: Fields that name who asks or how it is stored; they don't shape the answer.
_IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})


def is_batch_line(fields: dict[str, object]) -> bool:
    return "body" in fields and ("method" in fields or "url" in fields)


def batch_body(fields: dict[str, object]) -> dict[str, object]:
    """The body of a batch line, with exactly the prompt or messages its endpoint takes; raises `RowFault`."""
    for name in fields:
        if name not in _OUTER:
            raise RowFault(f"field {shown(name)} is not part of a batch line; known: custom_id, method, url, body")
    if fields.get("custom_id") is None:
        raise RowFault("custom_id is missing; every batch line needs one")
    if fields.get("method") != "POST":
        raise RowFault(f'method must be "POST", not {shown(fields.get("method"))}')
    url = fields.get("url")
    if not isinstance(url, str) or url not in URLS:
        raise RowFault(f"url {shown(url)} is not supported; use {' or '.join(URLS)}")
    body = fields.get("body")
    if not isinstance(body, dict):
        raise RowFault(f"body must be an object, not {shown(body)}")
    _check_body(body, url)
    return body


def _check_body(body: dict[str, object], url: str) -> None:
    wanted = URLS[url]
    for name, value in body.items():
        if name in UNSUPPORTED:
            check_supported(name, value)
        elif name not in _BODY and name not in _IGNORED:
            close = misspelt(name)
            hint = f"did you mean {close}?" if close else "remove it"
            raise RowFault(f"body: field {shown(name)} is not known; {hint}")
        elif name in ("messages", "prompt") and name != wanted:
            raise RowFault(f"body: {name} does not go with url {url}; it takes {wanted}")
    if wanted not in body:
        raise RowFault(f"body: {wanted} is missing; {url} needs it")
    if isinstance(body[wanted], list) and wanted == "prompt":
        raise RowFault("body: prompt is a list; write one line per prompt")
