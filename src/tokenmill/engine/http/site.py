"""Where a node is and how it is reached, and once it was asked, which API it speaks and which model it has."""

from __future__ import annotations

from collections.abc import Mapping

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.address import Address, address_of
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.detect import detect, with_base
from tokenmill.engine.http.dialect import Model
from tokenmill.engine.http.key import Key, find_key
from tokenmill.engine.http.ollama import Ollama
from tokenmill.engine.http.openai import OpenAI
from tokenmill.engine.http.proxy import find_proxy
from tokenmill.errors import EngineError, NodeUnreachable, UsageError

#: Longest wait for a connection while a run is prepared, in seconds.
SURVEY_CONNECT = 5.0


class Site:
    """One node; `place` is how errors name it, `dialect` None until `find` has learned it."""

    def __init__(self, node: Node, options: EngineOptions, environment: Mapping[str, str]) -> None:
        """Raises `UsageError` for an address, a key or a proxy that can't be used."""
        self.node = node
        self.options = options
        self.address: Address = address_of(node, environment)
        self.key: Key | None = find_key(node, self.address, environment)
        self.place = f"node {node.name!r} at {self.address.origin}"
        self.dialect: Ollama | OpenAI | None = None
        self._proxy = find_proxy(node, self.address, self.key, environment)
        self._base = self.address

    def client(self, clocks: Clocks) -> Client:
        """One for the API that was found."""
        return Client(self.place, self._base, self.key, clocks, proxy=self._proxy)

    async def find(self, clocks: Clocks) -> Model:
        """The model as the node has it now; learns the API first where the node's kind leaves it open.

        Raises:
            NodeUnreachable: the node doesn't answer now.
            UsageError: it can't serve this run.
        """
        try:
            if self.dialect is None:
                self.dialect = await self._speak(clocks)
            client = self.client(clocks)
            try:
                return await self.dialect.find(client)
            finally:
                await client.close()
        except EngineError as error:
            refusal = refused(error)
        raise refusal from None

    async def _speak(self, clocks: Clocks) -> Ollama | OpenAI:
        kind = self.node.engine
        if kind not in ("ollama", "openai"):
            kind = await detect(self.place, self.address, self.key, clocks, self._proxy)
        if kind == "ollama":
            return Ollama(self.node, self.options)
        self._base = with_base(self.address)
        return OpenAI(self.node, self.options, self.address.origin)


def refused(error: EngineError) -> UsageError:
    """Why a node can't be used: for now, or with these settings."""
    lasting = error.kind in ("misconfigured", "refused", "too_long", "filtered")
    return UsageError(error.message) if lasting else NodeUnreachable(error.message)
