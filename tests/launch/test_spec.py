"""What `--on` says, and how a rank reads its surroundings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.driver.options import Settings, as_data
from tokenmill.engine.local.machine import usable_cores
from tokenmill.errors import UsageError
from tokenmill.launch.cores import divide, place
from tokenmill.launch.invitation import (
    FILE_VARIABLE,
    JOIN_VARIABLE,
    TOKEN_VARIABLE,
    Invitation,
    find_invitation,
)
from tokenmill.launch.spec import On, checked, parse_on
from tokenmill.launch.surroundings import (
    as_torchrun,
    expand_counts,
    first_host,
    forget_secrets,
    own_gpu,
    rank_environment,
    settle,
)

INVITATION = Invitation(addresses=("10.0.0.1:99", "127.0.0.1:99"), token="a secret")


def test_the_short_form() -> None:
    """Kind, workers, and options of the kind."""
    on = parse_on("torchrun:3,restarts=5,agents=0")

    assert (on.kind, on.workers, on.options) == ("torchrun", 3, {"restarts": "5", "agents": "0"})
    assert str(on) == "torchrun:3,agents=0,restarts=5"


def test_what_isnt_the_default_is_said() -> None:
    """So that a line about it can be typed again."""
    on = On(kind="processes", workers=1, tp=2, tp_engine="deepspeed")

    assert str(on) == "processes:1 --tp 2 --tp-engine deepspeed"


def test_values_of_variables_arent_said() -> None:
    """A line about it has their names, and stays one line however often an option was given."""
    on = On(kind="slurm", workers=2, options={"environment": "HOME=/a\nPLACE=b=c", "modules": "gcc\ncuda"})

    assert str(on) == "slurm:2,environment=HOME+PLACE,modules=gcc+cuda"


@pytest.mark.parametrize("text", ["slurm:2,environment=A=hush,bad", "cloud:2,environment=A=hush", "slurm:2,B=hush"])
def test_what_cant_be_read_isnt_repeated_whole(text: str) -> None:
    """The line names what is wrong without the values of variables that stand beside it."""
    with pytest.raises(UsageError) as caught:
        parse_on(text)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("cpus", "gpu", "words"),
    [
        ([3], None, "core 3"),
        ([0, 1, 2], None, "cores 0-2"),
        ([8, 0, 1, 4], None, "cores 0-1, 4, 8"),
        ([0, 1], "2", "GPU 2"),
    ],
)
def test_where_a_rank_computes(cpus: list[int], gpu: str | None, words: str) -> None:
    """Its cores in short, or the GPU that it has."""
    assert place(cpus, gpu) == words


def test_it_is_kept_with_the_settings() -> None:
    """A resume launches the same again."""
    settings = Settings(nodes=("local:demo",), on=On(kind="ray", workers=2, most=5, tp=2, options={"a": "b"}))

    assert msgspec.convert(as_data(settings), Settings) == settings


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_what_json_cant_keep_is_refused(number: float) -> None:
    """A resume couldn't read such settings again, wherever they were given."""
    with pytest.raises(UsageError, match=f"grace is {number}; give a finite number"):
        as_data(Settings(nodes=("local:demo",), grace=number))


@pytest.mark.parametrize(
    "on",
    [
        On(kind="processes", workers=0),
        On(kind="processes", workers=2, tp=0),
        On(kind="ray", workers=3, most=2),
        On(kind="ray", workers=3, silence=0.1),
        On(kind="no", workers=1),
    ],
)
def test_numbers_that_dont_go_together(on: On) -> None:
    """They are refused wherever they come from."""
    with pytest.raises(UsageError):
        checked(on)


@given(st.integers(1, 64), st.integers(1, 64))
def test_cores_are_divided_whole(cores: int, ranks: int) -> None:
    """Every rank has a core; none is shared, and none is left, while there are enough."""
    shares = divide([[2 * core, 2 * core + 1] for core in range(cores)], ranks)

    assert len(shares) == ranks
    assert all(shares)
    if ranks <= cores:
        assert sorted(cpu for share in shares for cpu in share) == list(range(2 * cores))
        assert max(map(len, shares)) - min(map(len, shares)) <= 2


def test_a_join_file_is_its_owners(tmp_path: Path) -> None:
    """It is written whole with mode 600, read back, and refused where others may read it."""
    path = tmp_path / "join"
    INVITATION.write(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert find_invitation({FILE_VARIABLE: str(path)}) == INVITATION
    assert list(tmp_path.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(UsageError, match="others may read it"):
        find_invitation({FILE_VARIABLE: str(path)})


def test_an_invitation_in_the_environment() -> None:
    """Addresses and token, or a line that says what is missing."""
    assert find_invitation(INVITATION.environment()) == INVITATION
    with pytest.raises(UsageError, match=JOIN_VARIABLE):
        find_invitation({TOKEN_VARIABLE: "x"})


@pytest.mark.parametrize("content", [b"", b"{}", b'{"addresses": 3, "token": ""}', b"\xff"])
def test_a_file_that_is_no_join_file(tmp_path: Path, content: bytes) -> None:
    """It is named as such."""
    path = tmp_path / "join"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(UsageError, match="is no join file"):
        find_invitation({FILE_VARIABLE: str(path)})


def test_what_srun_says_in_the_words_of_torchrun() -> None:
    """Ranks of a step know their number, their host's share and where to meet."""
    said = {
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "7",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
        "SLURM_STEP_NODELIST": "n[1-3],m7",
        "SLURM_JOB_ID": "17",
    }

    as_torchrun(said)

    assert (said["RANK"], said["WORLD_SIZE"], said["LOCAL_RANK"], said["LOCAL_WORLD_SIZE"]) == ("5", "7", "1", "2")
    assert (said["MASTER_ADDR"], said["MASTER_PORT"]) == ("n1", "20017")


def test_torchruns_own_words_stay() -> None:
    """Ranks that torchrun started inside a step are torchrun's."""
    said = {"SLURM_PROCID": "0", "RANK": "3"}

    as_torchrun(said)

    assert said == {"SLURM_PROCID": "0", "RANK": "3"}


@pytest.mark.parametrize(
    ("text", "host"), [("n1", "n1"), ("n[3,5-7]", "n3"), ("a,b", "a"), ("gpu-[001-064]", "gpu-001"), ("", "")]
)
def test_the_first_host_of_a_list(text: str, host: str) -> None:
    """As SLURM folds names."""
    assert first_host(text) == host


def test_counts_of_nodes() -> None:
    """As SLURM folds numbers."""
    assert expand_counts("2(x3),1,4(x2)") == [2, 2, 2, 1, 4, 4]


def test_a_rank_forgets_secrets() -> None:
    """Whoever started it: srun hands on all that the user's shell has. What proves the rank stays."""
    said = {"PATH": "/bin", "MY_API_KEY": "k", "PROXY": "http://me:secret@host", TOKEN_VARIABLE: "t", "RANK": "1"}

    forget_secrets(said)

    assert said == {"PATH": "/bin", TOKEN_VARIABLE: "t", "RANK": "1"}


@pytest.mark.parametrize("name", ["TOKENMILL_CPUS", "SLURM_CPUS_PER_TASK"])
def test_cores_that_were_reserved(name: str) -> None:
    """A rank takes no more than it was given, and no more than it can use."""
    assert settle({name: "1", "TOKENMILL_BESIDE": "1"}).cores == 1
    assert settle({name: "1000", "TOKENMILL_BESIDE": "1"}).cores == usable_cores()


def test_processors_that_are_half_a_core() -> None:
    """Ranks that together have all processors don't have more threads than there are cores."""
    both = str(2 * usable_cores())

    assert settle({"TOKENMILL_CPUS": both, "TOKENMILL_BESIDE": both}).cores == 1


def test_what_another_rank_was_told_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a driver is started by a rank's own launcher, its ranks have their own cores."""
    monkeypatch.setenv("TOKENMILL_CPUS", "3")

    assert "TOKENMILL_CPUS" not in rank_environment(1, {})


def test_one_gpu_for_each_replica() -> None:
    """Ranks that share a host take one of its GPUs each; who was given one keeps it."""
    shared = {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}

    assert own_gpu(shared) == "1"
    assert own_gpu(shared | {"CUDA_VISIBLE_DEVICES": "4,6"}) == "6"
    assert own_gpu(shared | {"CUDA_VISIBLE_DEVICES": "6"}) is None
    assert own_gpu({"LOCAL_RANK": "0"}) is None
    assert own_gpu(shared | {"TOKENMILL_TP": "2"}) is None
