"""OpenAI's API, as many servers speak it: the model from `/models`, answers from `/chat/completions`, and from
`/completions` where the prompt goes to the model as it stands.

The API tells nothing of the weights. The digest is therefore one of the API and the model's name: two nodes that
give one name to different weights, or to different quantisations of them, can't be told apart by it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.dialect import SHOWN, Model, decoded, entries, only_model, size_of, text_of, wanted_model
from tokenmill.engine.http.key import OPENAI_ORIGIN
from tokenmill.engine.http.openai_stream import OpenAIReader
from tokenmill.engine.http.prompt import messages_of, seed_of
from tokenmill.errors import EngineError, UsageError
from tokenmill.request import Request

CHAT, PLAIN = "/chat/completions", "/completions"
#: What nodes answer that keep no list of models, or fail to make one, as `transformers serve` does without a cache.
LISTLESS = (404, 405, 500, 501)


class OpenAI:
    """The dialect of one OpenAI-compatible node."""

    def __init__(self, node: Node, options: EngineOptions, origin: str) -> None:
        self._wanted = wanted_model(node, options)
        self._context = options.context
        self._limit = "max_completion_tokens" if origin == OPENAI_ORIGIN else "max_tokens"
        self._listed: list[str] | None = None
        self._raw = options.raw

    async def find(self, client: Client) -> Model:
        found = await self._models(client)
        names = [name for name in (text_of(each, "id") for each in found) if name]
        self._listed = names
        name = self._wanted or only_model(client, names)
        entry = next((each for each in found if each.get("id") == name), {})
        meta = entry.get("meta")
        context = size_of(entry, "max_model_len") or size_of(entry, "context_length")
        if context is None and isinstance(meta, dict):
            context = size_of(meta, "n_ctx")
        return Model(
            name=name,
            digest="openai-" + hashlib.sha256(f"openai\0{name}".encode()).hexdigest()[:32],
            context=min((each for each in (self._context, context) if each is not None), default=None),
        )

    async def load(self, client: Client, model: Model, seconds: float) -> Model:
        """A model that the node doesn't list is asked for one token: some list nothing, or other names."""
        if self._listed is not None and model.name not in self._listed:
            asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], self._limit: 1}
            if self._raw:
                asked = {"prompt": "Hello", "max_tokens": 1}
            body = {"model": model.name, "stream": False} | asked
            try:
                await client.tell(PLAIN if self._raw else CHAT, msgspec.json.encode(body), seconds)
            except EngineError as error:
                if error.kind not in ("misconfigured", "refused"):
                    raise
                known = client.clean(", ".join(self._listed[:SHOWN])) or "none"
                raise UsageError(f"no model {model.name!r} there ({error.message}); it lists: {known}") from error
        return model

    def encode(self, request: Request, model: Model) -> tuple[str, bytes]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": model.name,
            **({"prompt": request.prompt} if request.raw else {"messages": messages_of(request)}),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "seed": seed_of(request),
        }
        if sampling.top_p != 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.max_tokens is not None:
            body["max_tokens" if request.raw else self._limit] = sampling.max_tokens
        if sampling.stop:
            body["stop"] = sampling.stop
        return PLAIN if request.raw else CHAT, msgspec.json.encode(body)

    def reader(self, request: Request, model: Model) -> OpenAIReader:
        return OpenAIReader(request, model.context, model.reads)

    async def _models(self, client: Client) -> list[dict[str, Any]]:
        """What the node lists; a node without that list is fine if the model was named, and is asked for one token."""
        try:
            content = await client.describe("/models")
        except EngineError as error:
            if self._wanted is None or error.status not in LISTLESS:
                raise
            return []
        return entries(decoded(client, "/models", content), "data")
