"""The test kit: servers that speak the APIs of Ollama and OpenAI as the real ones do, and misbehave by script and seed.

`with FaultServer(Behaviour(slots=2, fault=(Reset(times=1),))) as server:` starts a real process; `server.url` is its
address and `server.state()` what it saw. See docs/testing.md. Nothing here is needed to run prompts.
"""

from tokenmill.testing.behaviour import Behaviour, Change, Curve, Script
from tokenmill.testing.fault import (
    Body,
    Close,
    Down,
    Late,
    Reset,
    Silent,
    Status,
    Unfinished,
)
from tokenmill.testing.ledger import State, Tally
from tokenmill.testing.server import FaultServer

__all__ = [
    "Behaviour",
    "Body",
    "Change",
    "Close",
    "Curve",
    "Down",
    "FaultServer",
    "Late",
    "Reset",
    "Script",
    "Silent",
    "State",
    "Status",
    "Tally",
    "Unfinished",
]
