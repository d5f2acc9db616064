"""Sizes as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes with three digits and a unit of powers of 1000, as disks have them: 640 bytes, 1.26 GB."""
    for power, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * power:
            return f"{count / power:.3g} {unit}"
    return f"{count:.0f} bytes"
