"""The certificate as JSON; what is not available is null, with its reason beside it."""

from __future__ import annotations

import msgspec

from tokenmill.report.certificate import Certificate


def encode(certificate: Certificate) -> bytes:
    """The whole certificate, indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(certificate), indent=2) + b"\n"


def decode(text: bytes | str) -> Certificate:
    """A certificate as `encode` wrote it."""
    return msgspec.json.decode(text, type=Certificate)
