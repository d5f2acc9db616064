"""Ollama's own API: model and digest from its lists, one pinned context, answers from `/api/chat`, and from
`/api/generate` where the prompt goes to the model as it stands.

Ollama cuts an over-long prompt silently, and loads the model again when a request asks for another context. So
every request says `truncate: false` and `shift: false`, and all of a run ask for the same `num_ctx`: the user's, else
what the model is loaded with, else what its Modelfile says. It is settled when the node is opened and stays.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.dialect import SHOWN, Model, decoded, entries, only_model, size_of, text_of, wanted_model
from tokenmill.engine.http.ollama_stream import OllamaReader
from tokenmill.engine.http.prompt import messages_of, seed_of
from tokenmill.errors import EngineError, UsageError
from tokenmill.request import Request

NUM_CTX = re.compile(r"^num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)


class Ollama:
    """The dialect of one Ollama node."""

    def __init__(self, node: Node, options: EngineOptions) -> None:
        self._wanted = wanted_model(node, options)
        self._asked = options.context
        self._pinned = options.context

    async def find(self, client: Client) -> Model:
        about = decoded(client, "/api/version", await client.describe("/api/version"))
        listed = entries(decoded(client, "/api/tags", await client.describe("/api/tags")), "models")
        tags = {text_of(each, "model", "name"): each for each in listed}
        name = self._chosen(client, [name for name in tags if name])
        digest = text_of(tags[name], "digest")
        if not digest:
            raise client.fault(EngineError("misconfigured", f"/api/tags names no digest of model {name!r}"))
        model = Model(
            name=name,
            digest=f"ollama-{digest.removeprefix('sha256:')}",
            version=client.clean(text_of(about, "version")),
        )
        model = await self._as_loaded(client, model)
        if self._pinned is None and model.context is None:
            model = replace(model, context=await self._of_modelfile(client, name))
        return model if self._pinned is None else replace(model, context=self._pinned)

    async def load(self, client: Client, model: Model, seconds: float) -> Model:
        """Has the model loaded with the context of the run, by the empty request that is there for it."""
        if self._pinned is None:
            self._pinned = model.context
        body: dict[str, Any] = {"model": model.name, "stream": False}
        if self._pinned is not None:
            body["options"] = {"num_ctx": self._pinned}
        await client.tell("/api/generate", msgspec.json.encode(body), seconds)
        loaded = await self._as_loaded(client, replace(model, context=None))
        if self._asked is not None and loaded.context is not None and loaded.context < self._asked:
            raise UsageError(
                f"{client.place}: context is {self._asked}, and the model was loaded with {loaded.context}; "
                f"give --context {loaded.context} or less"
            )
        if self._pinned is None:
            self._pinned = loaded.context
        return replace(loaded, context=self._pinned)

    def encode(self, request: Request, model: Model) -> tuple[str, bytes]:
        sampling = request.sampling
        options: dict[str, Any] = {"temperature": sampling.temperature, "seed": seed_of(request)}
        options["top_p"] = sampling.top_p
        options["top_k"] = sampling.top_k  # 0 switches it off there as well; left out it would be 40
        if self._pinned is not None:
            options["num_ctx"] = self._pinned
        if sampling.max_tokens is not None:
            options["num_predict"] = sampling.max_tokens
        if sampling.stop:
            options["stop"] = sampling.stop
        body = {
            "model": model.name,
            **({"prompt": request.prompt, "raw": True} if request.raw else {"messages": messages_of(request)}),
            "stream": True,
            "truncate": False,
            "shift": False,
            "options": options,
        }
        return "/api/generate" if request.raw else "/api/chat", msgspec.json.encode(body)

    def reader(self, request: Request, model: Model) -> OllamaReader:
        return OllamaReader(request, model.context, model.reads)

    def _chosen(self, client: Client, names: list[str]) -> str:
        if self._wanted is None:
            return only_model(client, names)
        for name in (self._wanted, f"{self._wanted}:latest"):
            if name in names:
                return name
        has = client.clean(", ".join(names[:SHOWN])) or "none"
        raise UsageError(
            f"{client.place}: no model {self._wanted!r} there; it has: {has}. Pull it there (ollama pull "
            f"{self._wanted}) or name another"
        )

    async def _as_loaded(self, client: Client, model: Model) -> Model:
        """The model with its context and place, if it is loaded now."""
        running = entries(decoded(client, "/api/ps", await client.describe("/api/ps")), "models")
        for each in running:
            if model.name in (each.get("model"), each.get("name")):
                size, fast = size_of(each, "size"), each.get("size_vram")
                return replace(
                    model,
                    context=size_of(each, "context_length"),
                    memory=size or 0,
                    placement=placement_of(size, fast if isinstance(fast, int) else None),
                )
        return model

    async def _of_modelfile(self, client: Client, name: str) -> int | None:
        content = await client.tell("/api/show", msgspec.json.encode({"model": name}))
        found = NUM_CTX.search(text_of(decoded(client, "/api/show", content), "parameters"))
        return int(found[1]) if found else None


def placement_of(size: int | None, fast: int | None) -> str:
    """Where the weights lie: `GPU`, `CPU`, or how much of them found room on the GPU."""
    if not size or fast is None:
        return ""
    share = fast / size
    if share >= 1:
        return "GPU"
    return f"{share:.0%} GPU, spilled to CPU" if share > 0 else "CPU"
