"""Whether nodes see the run's folder is asked before a job is submitted."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tokenmill.errors import UsageError
from tokenmill.launch.slurm.sharing import check_shared

HERE = ("127.0.0.1", socket.gethostname())


def test_a_local_disk_is_enough_where_all_nodes_are_this_host(tmp_path: Path) -> None:
    """A cluster on one machine shares its disk, also a folder that isn't there yet."""
    check_shared(tmp_path / "runs" / "x", [HERE, ("n2.example", socket.gethostname() + ".example")])


def test_a_local_disk_is_refused_where_another_node_is(tmp_path: Path) -> None:
    """The message names the folder, the node, and both ways out."""
    with pytest.raises(UsageError, match="node 'n7' is another; keep runs in a folder that all nodes see") as caught:
        check_shared(tmp_path, [HERE, ("192.0.2.7", "n7")])
    assert "\n" not in str(caught.value)
    assert "--shared" in str(caught.value)
