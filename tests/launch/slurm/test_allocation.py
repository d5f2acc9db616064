"""What users may ask of SLURM, and what they are told if it can't be."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import UsageError
from tokenmill.launch.slurm.allocation import BETWEEN, OPTIONS, SHOWN, parse_allocation, seconds


def test_everything_is_read() -> None:
    """Each option ends up where the script takes it from."""
    found = parse_allocation(
        {
            "nodes": "2",
            "cpus": "8",
            "gpus": "a100:1",
            "memory": "64G",
            "time": "1-12:00",
            "partition": "gpu,long",
            "account": "lab_1",
            "qos": "high",
            "array": "8%2",
            "modules": BETWEEN.join(["gcc/13.2", "cuda/12.4"]),
            "environment": BETWEEN.join(["HF_HOME=/data/hf", "SAID=it's = fine"]),
            "setup": "source /opt/env",
            "container": "apptainer exec --nv '/data/my image.sif'",
            "extra": BETWEEN.join(["--constraint=a100&nvlink", "--exclusive"]),
            "python": "/data/venv/bin/python",
            "requeue": "no",
            "shared": "yes",
            "interrupt": "cancel",
        },
        tasks=4,
    )
    assert (found.tasks, found.nodes, found.cpus, found.gpus, found.memory) == (4, 2, 8, "a100:1", "64G")
    assert (found.elements, found.throttle, found.is_array) == (8, 2, True)
    assert found.modules == ("gcc/13.2", "cuda/12.4")
    assert found.environment == ("HF_HOME=/data/hf", "SAID=it's = fine")
    assert found.container == ("apptainer", "exec", "--nv", "/data/my image.sif")
    assert found.extra == ("--constraint=a100&nvlink", "--exclusive")
    assert (found.requeue, found.shared, found.interrupt) == (False, True, "cancel")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nodes", "0"),
        ("nodes", "two"),
        ("cpus", "-1"),
        ("gpus", "a100:"),
        ("memory", "64 G"),
        ("time", "soon"),
        ("time", "1:2:3:4"),
        ("partition", "a b"),
        ("account", "$(reboot)"),
        ("qos", ""),
        ("array", "8%0"),
        ("array", "0-7"),
        ("modules", "a; reboot"),
        ("environment", "1A=2"),
        ("environment", "NO_VALUE"),
        ("setup", "true\x07"),
        ("container", "run 'unclosed"),
        ("extra", "constraint=a"),
        ("extra", "--array=3"),
        ("extra", "--output=elsewhere"),
        ("python", "a\rb"),
        ("requeue", "maybe"),
        ("interrupt", "panic"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    """The message has the option, the value, and what would be right."""
    with pytest.raises(UsageError, match=f"--{SHOWN.get(name, name)} ") as caught:
        parse_allocation({name: value}, tasks=4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pair", ["HF_TOKEN=hush", "proxy=http://me:hush@host", "MY_API_KEY=hush", "A B=hush"])
def test_no_secret_is_taken(pair: str) -> None:
    """All of this is kept in files, so what looks like a secret is refused, and its value isn't said."""
    with pytest.raises(UsageError, match="--env ") as caught:
        parse_allocation({"environment": BETWEEN.join(["OMP_NUM_THREADS=1", pair])}, tasks=4)
    assert "hush" not in str(caught.value)


def test_the_way_out_for_a_secret_is_said() -> None:
    """It is what every job gets anyway."""
    with pytest.raises(UsageError, match="export HF_TOKEN in the shell that submits, whose environment sbatch hands"):
        parse_allocation({"environment": "HF_TOKEN=hush"}, tasks=4)


def test_an_unknown_option_is_refused() -> None:
    """A misspelt option is named with those there are."""
    with pytest.raises(UsageError, match="'partiton'; known: account, array"):
        parse_allocation({"partiton": "gpu"}, tasks=1)


def test_more_nodes_than_processes_are_refused() -> None:
    """A node without a process would be idle."""
    with pytest.raises(UsageError, match="--nodes 3 are more than the 2 processes"):
        parse_allocation({"nodes": "3"}, tasks=2)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("2:00:00", 7200),
        ("1-0", 86400),
        ("1-2:30", 95400),
        ("1-2:30:05", 95405),
        ("UNLIMITED", None),
        (None, None),
    ],
)
def test_times_are_read_as_slurm_does(time: str | None, expected: int | None) -> None:
    """Minutes stand alone; a dash ends the days."""
    assert seconds(time) == expected


@given(st.sampled_from(OPTIONS), st.text(max_size=30))
def test_any_text_is_read_or_refused(name: str, value: str) -> None:
    """Whatever is given, it is taken or refused in words, and never breaks out of a line."""
    with suppress(UsageError):
        kept = getattr(parse_allocation({name: value}, tasks=100), name, None)
        for text in (kept,) if isinstance(kept, str) else kept if isinstance(kept, tuple) else ():
            assert not any(ord(letter) < 32 for letter in text)
