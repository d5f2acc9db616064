"""The GPUs of this machine that may be used here, by the names that CUDA_VISIBLE_DEVICES takes."""

from __future__ import annotations

import os
import subprocess

#: Seconds that the driver's own tool may take to list the GPUs.
PATIENCE = 20.0


def visible_gpus() -> list[str]:
    """Those that the environment allows, else all that the driver's tool lists; none without a driver."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [each.strip() for each in told.split(",") if each.strip() and each.strip() != "-1"]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip().isdecimal()]
