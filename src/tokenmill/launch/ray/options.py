"""What `--on ray:N,NAME=VALUE,...` may say, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.launch.spec import On

#: Where Ray's own tools look for a cluster if nothing else is said.
ADDRESS_VARIABLE = "RAY_ADDRESS"
NAMES = ("ray-address", "cpus", "gpus", "resource")
_RESOURCE = re.compile(r"([A-Za-z_][\w.:/-]*):([0-9.]+)")
_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:.]+\]|[^:/\s]+):([0-9]{1,5})")


class RayOptions(Struct, frozen=True, kw_only=True):
    """`address` None starts Ray on this machine. `cpus`, `gpus`: for each rank, None for what the cluster suggests.

    `resource`: a resource of the cluster that each worker needs besides, with its amount.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    resource: tuple[str, float] | None = None

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port to knock at; None where Ray itself must find out."""
        found = _ADDRESS.fullmatch(self.address or "")
        return None if found is None else (found[1].strip("[]"), int(found[2]))


def read_options(on: On, environment: Mapping[str, str]) -> RayOptions:
    """The options of `on`; raises `UsageError` that names the first which can't be."""
    unknown = sorted(on.options.keys() - set(NAMES))
    if unknown:
        raise UsageError(f"--on {on}: ray has no option {unknown[0]!r}; known: {', '.join(NAMES)}")
    address = on.options.get("ray-address") or environment.get(ADDRESS_VARIABLE) or None
    if address == "local":
        address = None
    if address is not None and address != "auto":
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found[2]) < 65536:
            raise UsageError(
                f"Ray address {address!r} can't be read; write HOST:PORT, as 'ray start' shows it, ray://HOST:PORT, "
                "auto for the cluster that this machine is a node of, or local"
            )
    return RayOptions(
        address=address,
        cpus=_amount(on, "cpus"),
        gpus=_amount(on, "gpus"),
        resource=_resource(on),
    )


def _amount(on: On, name: str) -> float | None:
    text = on.options.get(name)
    if text is None:
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e6 or (name == "cpus" and amount == 0):
        raise UsageError(f"--on {on}: {name} {text!r} is no amount for a rank; write a number such as {name}=2")
    return amount


def _resource(on: On) -> tuple[str, float] | None:
    text = on.options.get("resource")
    if text is None:
        return None
    found = _RESOURCE.fullmatch(text)
    try:
        amount = float(found[2]) if found else 0.0
    except ValueError:
        amount = 0.0
    if found is None or amount <= 0:
        raise UsageError(f"--on {on}: resource {text!r} can't be read; write NAME:AMOUNT, such as resource=fast:1")
    return found[1], amount
