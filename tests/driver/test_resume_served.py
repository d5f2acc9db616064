"""What is given to a run on servers when it goes on."""

from __future__ import annotations

from pathlib import Path

import tokenmill
from tokenmill.driver.options import named_nodes
from tokenmill.driver.resume import merged_settings
from tokenmill.record.folder import read_manifest
from tokenmill.testing import Behaviour, FaultServer


def test_a_model_alone_is_asked_of_the_servers_of_the_run(tmp_path: Path) -> None:
    """`resume --model NAME`, which would be a folder of this machine in a new run, doesn't take the servers away."""
    with FaultServer(Behaviour(slots=2, rate=4000.0)) as server:
        run = tokenmill.run(["Say one."], nodes=[f"openai:{server.url}"], runs_dir=tmp_path)
    manifest = read_manifest(run.folder)
    given = {"model": "other", "nodes": named_nodes("other", ())}

    settings = merged_settings(manifest, given)

    assert (settings.nodes, settings.model) == ((f"openai:{server.url}",), "other")
    here = merged_settings(manifest, {"model": "other", "nodes": named_nodes("other", ("scripted:s.toml",))})
    assert all(node.startswith(("local:", "scripted:")) for node in here.nodes)
