"""The process between the driver and Ray; `python -P -m tokenmill.launch.ray.agent`, started by the launcher.

Orders come as lines on standard input, reports go as lines to standard output; whatever Ray prints goes to standard
error. It ends, and takes all actors along, when its input ends: that is how the driver says stop, and what happens when
the driver dies. Should Ray hang over that, a thread ends the process anyway, and Ray ends the actors of a job that is
gone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from tokenmill.launch.ray.wire import Connected, Dismiss, Failed, Hold, Order, Report, as_line, read_order

#: Seconds that Ray has to end all actors, and itself if it was started here.
GRACE = 15.0
#: Seconds between two looks at the orders.
LOOK = 0.5
#: Bytes of object store of a Ray that is started here: nothing of a run goes through it.
STORE = 100_000_000
#: Starts of a Ray of our own: its parts wait for each other for 20 s only, which a busy machine may take.
TRIES = 2

#: What Ray says where a cluster can't be used, and what helps.
REMEDIES = (
    ("Version mismatch", "use the same versions of Ray and Python here as on the cluster"),
    (
        "uthentication",
        "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token, as 'ray get-auth-token' shows it",
    ),
    ("token", "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token, as 'ray get-auth-token' shows it"),
    ("Could not find any running Ray instance", "start one with 'ray start --head', or name its address"),
    ("IP address", "run this on a host of the cluster, or name ray://HOST:10001"),
    ("node_ip_address", "run this on a host of the cluster, or name ray://HOST:10001"),
)
STARTING = (
    "its logs are in the folder session_latest/logs of Ray's temporary folder; try again if this machine was busy"
)
OTHERWISE = "check the address that 'ray status' shows on the cluster, and that this machine is a node of it"


def main() -> None:
    """Runs an agent to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), name="orders", daemon=True).start()
    hold = orders.get()
    if not isinstance(hold, Hold):
        os._exit(0)

    def tell(report: Report) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more; the input will end as well
            reports.write(as_line(report))

    status = 1
    try:
        status = work(hold, orders, tell)
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)  # not by way of what Ray does at the end of a process: all is done


def work(hold: Hold, orders: queue.SimpleQueue[Order | None], tell: Callable[[Report], None]) -> int:
    """Connects, looks after the workers until the input ends, and cleans up."""
    try:
        connect(hold)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises, the user gets one line
        tell(Failed(explain(hold, error)))
        return 1
    import ray

    from tokenmill.launch.ray.actors import Actors

    actors = Actors(hold, tell)
    try:
        if unfit := actors.unfit():
            tell(Failed(unfit))
            return 1
        tell(Connected(actors.describe()))
        while True:
            actors.look(LOOK)
            try:
                order = orders.get_nowait()
            except queue.Empty:
                continue
            if order is None:
                return 0
            if isinstance(order, Dismiss):
                actors.dismiss(order.index, order.generation)
    finally:
        actors.close()
        ray.shutdown()


def connect(hold: Hold) -> None:
    """To the cluster that is named, or to one that is started here and ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if hold.address is None and "RAY_AUTH_MODE" not in os.environ:
        # A token of its own: Ray would else write one into the user's home.
        import secrets

        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if hold.address is not None:
        ray.init(address=hold.address, namespace="tokenmill", **quiet)
        return
    for left in reversed(range(TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=hold.local_cpus,
                include_dashboard=False,
                object_store_memory=STORE,
                **quiet,
            )
        except RuntimeError:
            if not left:
                raise
            ray.shutdown()
        else:
            return


def explain(hold: Hold, error: BaseException) -> str:
    """One line: what Ray said, and what helps."""
    said = " ".join(str(error).split()) or type(error).__name__
    remedy = next((remedy for words, remedy in REMEDIES if words in said), OTHERWISE if hold.address else STARTING)
    where = f"Ray at {hold.address}" if hold.address else "a Ray on this machine"
    return f"{where} can't be used ({said[:300]}); {remedy}"


def _read(orders: queue.SimpleQueue[Order | None]) -> NoReturn:
    """Hands on the orders; once they end, the process has some seconds left, whatever it is doing."""
    # No buffer, as this thread would hold its lock at the process's end.
    with contextlib.suppress(OSError, msgspec.DecodeError), open(0, "rb", buffering=0) as file:
        for line in file:
            orders.put(read_order(line))
    orders.put(None)
    threading.Event().wait(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
