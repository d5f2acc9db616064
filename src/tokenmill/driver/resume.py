"""What may change between two sessions of a run, and what may not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tokenmill.driver.acceptance import Acceptance
from tokenmill.driver.options import Options, Settings, as_data, changes, is_served, named_nodes
from tokenmill.errors import UsageError
from tokenmill.record.folder import Manifest
from tokenmill.workload import scan


def merged_settings(manifest: Manifest, given: dict[str, Any]) -> Settings:
    """The run's settings with those that were given now.

    A model alone names no node of this machine if the run has servers: it is what they are asked for.
    """
    old = msgspec.convert(manifest.settings, Settings)
    if given.get("nodes") == named_nodes(given.get("model"), ()) and any(map(is_served, old.nodes)):
        given = {name: value for name, value in given.items() if name != "nodes"}
    return msgspec.convert(manifest.settings | given, Settings)


def refuse_changes(manifest: Manifest, options: Options) -> None:
    """Raises `UsageError` that lists what differs, if these options would shape other answers."""
    differing = changes(manifest.options, as_data(options))
    if differing:
        listed = "; ".join(differing)
        raise UsageError(f"run {manifest.run_id}: options changed ({listed}); leave them out, or start a new run")


def refuse_other_rows(manifest: Manifest, options: Options, rows: Iterable[object]) -> None:
    """Raises `UsageError` if rows handed over in Python aren't those that the run began with."""
    with tempfile.TemporaryDirectory(prefix="tokenmill-") as spool:
        scanned = scan(options.asked, Path(spool), rows=rows)
        total = sum(1 for _ in scanned)
    assert scanned.input is not None
    if scanned.input.sha256 != manifest.input.sha256:
        raise UsageError(
            f"run {manifest.run_id}: the rows changed ({manifest.rows} then, {total} now); start a new run"
        )


def check_same(manifest: Manifest, chosen: dict[str, Any], policies: dict[str, str]) -> None:
    """Compares the options that were given, and only those, with the run's own."""
    options = msgspec.convert(manifest.options, Options)
    sampling = options.workload.sampling
    names = ("max_tokens", "temperature", "top_p", "top_k")
    sampling = msgspec.structs.replace(
        sampling,
        **{name: chosen[name] for name in names if chosen.get(name) is not None},
        **({"stop": tuple(chosen["stop"])} if chosen.get("stop") else {}),
    )
    given: dict[str, Any] = {
        name: chosen[name] for name in ("dtype", "context", "seed") if chosen.get(name) is not None
    }
    if policies:
        given["acceptance"] = msgspec.convert(as_data(options.acceptance) | policies, Acceptance)
    workload = msgspec.structs.replace(options.workload, sampling=sampling)
    refuse_changes(manifest, msgspec.structs.replace(options, workload=workload, **given))
