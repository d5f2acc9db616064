"""What some tests need beyond Python: missing, they skip with the reason, unless TOKENMILL_REQUIRE names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tokenmill.testing.slurm import missing_programs


def require(name: str) -> None:
    """Skips the test if `name` is missing here; fails it instead if TOKENMILL_REQUIRE lists `name`."""
    reason = _missing(name)
    if reason is None:
        return
    if name in os.environ.get("TOKENMILL_REQUIRE", "").split(","):
        pytest.fail(f"TOKENMILL_REQUIRE names {name}, but {reason}")
    pytest.skip(reason)


def _missing(name: str) -> str | None:
    if name == "strace":
        return None if shutil.which("strace") else "strace is not installed"
    if name == "chromium":
        return _without_browser()
    if name == "axe-core":
        return None if axe_core().is_file() else "axe-core is not installed; npm install --prefix .cache/web axe-core"
    if name == "ggml":
        return (
            None
            if ggml_library().is_file()
            else "ggml is not installed; npm install --prefix .cache/web @node-llama-cpp/linux-x64"
        )
    if name == "time":
        return None if Path("/usr/bin/time").exists() else "GNU time is not installed"
    if name == "root":
        return None if os.geteuid() == 0 else "only root may mount a file system"
    if name == "linux":
        return None if sys.platform == "linux" else "this behaviour is Linux's"
    if name == "deepspeed":
        return None if deepspeed_place().is_dir() else "deepspeed is not installed; make .cache/deepspeed/.done"
    if name == "netns":
        return _without_namespaces()
    if name == "bindfs":
        return _without_bindfs()
    if name == "slurm":
        return _without_slurm()
    if name == "ray":
        return None if find_spec("ray") else "Ray isn't in this environment; it has one of its own: make test-ray"
    raise AssertionError(f"nothing is known about a requirement {name!r}")


def _without_namespaces() -> str | None:
    """Why no network namespaces can be made here: root alone isn't enough, some machines forbid it to root too."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need Linux, root and iproute2"
    name = f"tm{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return None if made.returncode == 0 else f"no network namespace can be made ({made.stderr.strip()})"


def _without_bindfs() -> str | None:
    """Why no file system can be mounted that other hosts might see, as far as the kernel tells."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return "a file system in user space needs root and /dev/fuse"
    return None if shutil.which("bindfs") else "bindfs is not installed"


def _without_slurm() -> str | None:
    """Why no cluster can be started here; its processes need a namespace of their own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a SLURM cluster needs Linux and root"
    if missing := missing_programs():
        return f"SLURM is not installed ({', '.join(missing)}); apt-get install slurmctld slurmd slurm-client munge"
    made = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True)
    return None if made.returncode == 0 else f"no namespace of processes can be made ({made.stderr.strip()})"


def axe_core() -> Path:
    """Where the checker of accessibility is, if it was installed."""
    return Path(__file__).parents[1] / ".cache" / "web" / "node_modules" / "axe-core" / "axe.min.js"


def deepspeed_place() -> Path:
    """Where DeepSpeed is, if it was installed: apart from everything else, for the paths of those that want it."""
    return Path(__file__).parents[1] / ".cache" / "deepspeed"


def ggml_library() -> Path:
    """Where the library is that quantizes for llama.cpp, if it was installed: as a part of a package of npm."""
    package = Path(__file__).parents[1] / ".cache" / "web" / "node_modules" / "@node-llama-cpp" / "linux-x64"
    return package / "bins" / "linux-x64" / "libggml-base.so"


def _without_browser() -> str | None:
    if not Path("/usr/bin/chromium").exists():
        return "Chromium is not installed"
    return None if find_spec("playwright") else "playwright is not installed"
