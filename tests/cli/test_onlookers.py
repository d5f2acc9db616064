"""Looking at a run never disturbs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tokenmill.record.lock import RunLock

LOOK = """
import sys
from pathlib import Path
from tokenmill.record.lock import is_locked
print("looking", flush=True)
while True:
    is_locked(Path(sys.argv[1]))
"""


def test_a_look_is_no_owner(tmp_path: Path) -> None:
    """`status` asks whether a run is locked; a run that starts at that very moment is not refused for it."""
    RunLock(tmp_path).release()
    with subprocess.Popen([sys.executable, "-c", LOOK, str(tmp_path)], stdout=subprocess.PIPE) as looker:
        assert looker.stdout is not None
        assert looker.stdout.readline() == b"looking\n"
        try:
            for _ in range(300):
                RunLock(tmp_path).release()
        finally:
            looker.terminate()
