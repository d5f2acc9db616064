"""`python -m tokenmill` is the same as the command `tokenmill`."""

from __future__ import annotations

from tokenmill.cli import main

main()
