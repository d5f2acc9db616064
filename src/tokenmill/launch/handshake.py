"""The first words between a worker and the driver's door, before either obeys the other.

Each proves to the other that it knows the run's token, and neither ever sends it: a stranger that listens where a
driver was learns nothing. Versions are compared by the door, which tells the cause; every field has a default and
unknown ones are passed over, so that even a much older or newer worker can be told why it is refused.
"""

from __future__ import annotations

import hmac
from importlib import metadata
from typing import TypeVar

import msgspec
from msgspec import Struct

from tokenmill import __version__
from tokenmill.engine.local.wire import HEADER, PROTOCOL, WireError
from tokenmill.launch.member import Member

NONCE = 32
#: Bytes of the longest frame before a worker was let in.
KNOCK = 8192
#: Seconds that the first words may take.
PATIENCE = 10.0


class Asked(Struct, frozen=True, tag="asked"):
    """The door speaks first: prove that you know the token."""

    nonce: bytes = b""
    protocol: int = PROTOCOL


class Knock(Struct, frozen=True, tag="knock", kw_only=True):
    """A worker's answer: who it is, what it runs, its proof, and what the door must prove in turn."""

    member: Member = Member()
    protocol: int = 0
    version: str = ""
    torch: str = ""
    nonce: bytes = b""
    proof: bytes = b""


class Welcome(Struct, frozen=True, tag="welcome"):
    """The door's proof; from now on both ends send beats, and `silence` seconds without a word end it."""

    proof: bytes = b""
    silence: float = 10.0


class Denied(Struct, frozen=True, tag="denied"):
    """Not let in, and why; `final`: trying again can't help."""

    message: str = ""
    final: bool = True


FromDoor = Asked | Welcome | Denied
_FROM_DOOR: msgspec.msgpack.Decoder[FromDoor] = msgspec.msgpack.Decoder(FromDoor)
_KNOCK: msgspec.msgpack.Decoder[Knock] = msgspec.msgpack.Decoder(Knock)
_T = TypeVar("_T")


def frame(message: FromDoor | Knock) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEADER, "big") + body


def from_door(body: bytes) -> FromDoor:
    return _decoded(_FROM_DOOR, body)


def from_stranger(body: bytes) -> Knock:
    return _decoded(_KNOCK, body)


def _decoded(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"first words that can't be read: {error}") from error


def prove(token: str, role: bytes, theirs: bytes, ours: bytes) -> bytes:
    """That `role` knows the token, for this one pair of nonces."""
    return hmac.digest(token.encode(), b"\0".join((role, theirs, ours)), "sha256")


def is_proof(proof: bytes, token: str, role: bytes, theirs: bytes, ours: bytes) -> bool:
    """Compared in constant time; without nonces of full length nothing is a proof."""
    if not token or len(theirs) != NONCE or len(ours) != NONCE:
        return False
    return hmac.compare_digest(proof, prove(token, role, theirs, ours))


def torch_version() -> str:
    """The version of torch without the build's suffix, empty where there is none; doesn't import it."""
    try:
        return metadata.version("torch").partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def unlike(knock: Knock, torch: str) -> str:
    """Why a worker with these versions can't work with this driver, which has `torch`; empty if it can."""
    who = str(knock.member)
    if knock.protocol != PROTOCOL or knock.version != __version__:
        said = f"tokenmill {knock.version or 'of unknown version'} (protocol {knock.protocol})"
        return (
            f"{who} has {said} and the driver {__version__} (protocol {PROTOCOL}); install the same version of "
            "tokenmill on both"
        )
    if torch and knock.torch != torch:
        return (
            f"{who} has torch {knock.torch or 'missing'} and the driver {torch}; install the same version on both, or "
            "answers may differ"
        )
    return ""
