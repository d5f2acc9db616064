"""How a worker finds its driver: addresses and a token, in its environment or in a file that only its owner reads.

The file is read anew at each try, so workers that lost their driver find one that was started again elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.errors import UsageError

#: Addresses, HOST:PORT, with commas between; all are tried.
JOIN_VARIABLE = "TOKENMILL_JOIN"
TOKEN_VARIABLE = "TOKENMILL_WORKER_TOKEN"
#: A file with the same, in the place of both.
FILE_VARIABLE = "TOKENMILL_JOIN_FILE"
#: Seconds for which a worker looks for its driver before it gives up.
PATIENCE_VARIABLE = "TOKENMILL_JOIN_PATIENCE"
PATIENCE = 60.0


class Invitation(Struct, frozen=True, kw_only=True):
    """Where the door is, and the secret that opens it; the secret is in no text of this object."""

    addresses: tuple[str, ...]
    token: str

    def __repr__(self) -> str:
        return f"Invitation({', '.join(self.addresses)})"

    __str__ = __repr__

    def environment(self) -> dict[str, str]:
        """What a worker of this machine is started with; never for anything that shows environments to others."""
        return {JOIN_VARIABLE: ",".join(self.addresses), TOKEN_VARIABLE: self.token}

    def write(self, path: Path) -> None:
        """Puts it into a file of mode 0600, whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(msgspec.json.encode(self))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_invitation(path: Path) -> Invitation:
    """From a file; raises `UsageError` for one that isn't there, isn't one, or that others may read."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(f"{path}: others may read it; a join file must have mode 600")
            return msgspec.json.decode(file.read(), type=Invitation)
    except OSError as error:
        raise UsageError(
            f"{path}: can't be read ({error.strerror}); the driver writes it when its run starts"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is no join file ({error})") from error


def find_invitation(environment: Mapping[str, str]) -> Invitation:
    """What this environment names; raises `UsageError`."""
    if named := environment.get(FILE_VARIABLE):
        return read_invitation(Path(named))
    addresses = tuple(each for each in environment.get(JOIN_VARIABLE, "").split(",") if each)
    token = environment.get(TOKEN_VARIABLE, "")
    if not addresses or not token:
        raise UsageError(
            f"nothing says which run to join; set {FILE_VARIABLE}, or {JOIN_VARIABLE} and {TOKEN_VARIABLE}"
        )
    return Invitation(addresses=addresses, token=token)
