"""The engine behind a server in honest mode.

Apart from the relay because it imports the driver and with it most of the package; a server without an engine of ours
starts without that.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from typing import cast

from tokenmill.cluster import EngineFacts
from tokenmill.driver.options import Options, Settings, make_engine, parse_node
from tokenmill.engine import Engine
from tokenmill.request import Chunk, Completion, Message, Request, Sampling
from tokenmill.testing.ask import Ask
from tokenmill.testing.behaviour import Behaviour
from tokenmill.workload import Spec


class Honest:
    """The engine behind a server."""

    def __init__(self, behaviour: Behaviour) -> None:
        settings = Settings(slots=behaviour.slots)
        self._engine: Engine = make_engine(
            parse_node(behaviour.honest, 0), Options(workload=Spec(source="-")), settings
        )
        self._rows = itertools.count()

    async def open(self) -> EngineFacts:
        return await self._engine.open()

    async def close(self) -> None:
        await self._engine.close()

    def count(self, ask: Ask) -> int:
        """The tokens of the prompt by the engine's own tokenizer."""
        return self._engine.count(self._request(ask))

    def generate(self, ask: Ask) -> AsyncGenerator[Chunk | Completion, None]:
        return cast(AsyncGenerator[Chunk | Completion, None], self._engine.generate(self._request(ask)))

    def _request(self, ask: Ask) -> Request:
        row = next(self._rows)
        messages = tuple(Message(role, content) for role, content in ask.messages) if ask.chat else ()
        sampling = Sampling(
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            seed=ask.seed,
            stop=ask.stop,
        )
        prompt = None if messages else ask.prompt
        return Request(
            row=row, custom_id=f"request-{row}", prompt=prompt, messages=messages, sampling=sampling, raw=ask.raw
        )
