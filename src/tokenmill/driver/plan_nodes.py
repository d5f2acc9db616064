"""Which stored figures fit the nodes of a plan, and which of these nodes may be used together. Asks no node anything.

A figure fits if it is of the node's address and of the model that all nodes hold; a figure of another model, or of
another version of the server than a verdict was measured with, is named and not used. What isn't stored has no speed
here, but a reason and the command that measures it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.cluster import Node
from tokenmill.driver.options import SERVED
from tokenmill.driver.sharing import address_of
from tokenmill.driver.verdicts import StoredVerdict
from tokenmill.errors import UsageError
from tokenmill.plan.choices import Unit
from tokenmill.plan.figures import Figure, Speed, speed_from_runs, speed_of, wider
from tokenmill.plan.identity import Identity, identify
from tokenmill.plan.inventory import DEVICES
from tokenmill.report.facts import DevicePace, Pace

#: How much of a digest is shown.
SHOWN = 19


class Known(Struct, frozen=True, kw_only=True):
    """What is known of one node: its speed with `source`, or `why` there is none. `pace`: the best of earlier runs."""

    node: Node
    address: str
    figure: Figure | None = None
    speed: Speed | None = None
    pace: Pace = Pace()
    source: str = ""
    why: str = ""


def known_nodes(
    nodes: Sequence[Node],
    written: Sequence[str],
    model: str | None,
    kept: Sequence[Figure],
    paces: Sequence[DevicePace],
) -> list[Known]:
    """Each node with what fits it; `written` is how to name it in a command.

    Raises:
        UsageError: the figures are of several models, and none was named.
    """
    addresses = [address_of(node) for node in nodes]
    of_node = [[each for each in kept if each.address == address] for address in addresses]
    fitting = [[each for each in mine if _is_of(each, node, model)] for node, mine in zip(nodes, of_node, strict=True)]
    digest = _digest(fitting, model)
    found = []
    for node, address, name, mine, fits in zip(nodes, addresses, written, of_node, fitting, strict=True):
        figure = next((each for each in fits if each.digest == digest), None)
        known = Known(node=node, address=address, figure=figure)
        if figure is None:
            found.append(replace(known, why=_missing(node, name, mine, fits, model, digest)))
        else:
            found.append(_with_speed(known, figure, name, paces))
    return found


def _is_of(figure: Figure, node: Node, model: str | None) -> bool:
    """Whether a figure is of the model that the node is asked for; an engine of this machine has only one."""
    wanted = node.model or model
    return wanted is None or node.engine not in SERVED or figure.model in (wanted, f"{wanted}:latest")


def _digest(fitting: Sequence[Sequence[Figure]], model: str | None) -> str:
    """The digest that most nodes have figures of, the newest of several."""
    figures = [each for fits in fitting for each in fits]
    models = sorted({each.model for each in figures})
    if model is None and len(models) > 1:
        listed = ", ".join(models)
        raise UsageError(f"the stored figures are of {len(models)} models: {listed}; name one with --model")
    nodes = Counter(each.digest for fits in fitting for each in fits)
    newest = {each.digest: each.checked for each in sorted(figures, key=lambda each: each.checked)}
    return max(nodes, key=lambda digest: (nodes[digest], newest[digest]), default="")


def _missing(
    node: Node, name: str, mine: Sequence[Figure], fits: Sequence[Figure], model: str | None, digest: str
) -> str:
    wanted = node.model or model
    command = f"tokenmill nodes check {name}" + (f" --model {wanted}" if wanted and not node.model else "")
    if not mine:
        return f"no stored figures; run '{command}'"
    if not fits:
        listed = ", ".join(f"{each.model} (checked on {each.day})" for each in mine)
        return f"its figures are of {listed}, not of {wanted}; run '{command}'"
    other = fits[-1]
    return (
        f"its figures of {other.day} are of another {other.model} ({other.digest[:SHOWN]}) than most nodes hold "
        f"({digest[:SHOWN]}): not used; put the same model there and run '{command}'"
    )


def _with_speed(known: Known, figure: Figure, name: str, paces: Sequence[DevicePace]) -> Known:
    place = (figure.host, figure.device, figure.digest)
    pace = next((each.pace for each in paces if (each.host, each.device, each.digest) == place), Pace())
    speed = speed_of(figure)
    by = f"{figure.engine} {figure.version}".strip()
    if speed is not None:
        source = f"nodes check of {figure.day}, {by}"
        if not figure.is_full and pace.width > speed.slots and pace.decode > speed.best:
            speed = speed_of(wider(figure, pace.width, pace.decode))
            source += ", and the best of earlier runs, whose day isn't kept"
        return replace(known, speed=speed, pace=pace, source=source)
    speed = speed_from_runs(figure.slots or 1, pace.single_stream, pace.decode, pace.width)
    if speed is not None:
        source = f"the best of earlier runs, whose day isn't kept, and nodes check of {figure.day}"
        return replace(known, speed=speed, pace=pace, source=source)
    if known.node.engine in SERVED:
        return replace(
            known, pace=pace, why=f"its answers were too short to measure; run 'tokenmill nodes check {name}'"
        )
    how = "with several requests at a time" if pace.single_stream else "once"
    return replace(known, pace=pace, why=f"its pace was never measured; run 'tokenmill run' on it {how}")


class Grouping(Struct, frozen=True, kw_only=True):
    """How nodes go together: `units` may be added to one another, `notes` say why the other nodes are in none.

    `assumed`: nodes that are taken to have hardware of their own, though nothing says so.
    """

    units: tuple[Unit, ...]
    notes: dict[str, str]
    assumed: tuple[str, ...]


def sharing_of(known: Sequence[Known], verdicts: Sequence[StoredVerdict], slots: int | None) -> Grouping:
    """By the stored evidence and verdicts; nodes that share no device all go together."""
    usable = {each.node.name: each for each in known if each.speed is not None}
    identity = _identity(usable.values())
    units: list[Unit] = []
    notes: dict[str, str] = {}
    for names in _kin(identity, list(usable)):
        group = [usable[name] for name in names]
        units += _units(group, identity, verdicts, slots, notes)
    hosts = {identity.host_of(name).name: identity.host_of(name) for name in usable}
    assumed = [name for name in usable if identity.host_of(name).sure == "assumed"] if len(hosts) > 1 else []
    return Grouping(units=tuple(units), notes=notes, assumed=tuple(assumed))


def _identity(usable: Iterable[Known]) -> Identity:
    """Marks of two checks can't be compared, as they move on."""
    figures = [(each.node, each.figure) for each in usable if each.figure is not None]
    is_one_check = len({figure.checked for _, figure in figures}) == 1
    return identify(
        replace(
            figure.sighting,
            node=node.name,
            host=node.host,
            devices=frozenset(node.device.split(DEVICES)) if node.device else frozenset(),
            marks=figure.sighting.marks if is_one_check else (),
        )
        for node, figure in figures
    )


def _kin(identity: Identity, names: Sequence[str]) -> list[list[str]]:
    """Nodes that may share a device with one another, in groups; most are alone."""
    groups: list[list[str]] = []
    for name in names:
        kin = [group for group in groups if any(identity.may_share(name, other) for other in group)]
        joined = [*(other for group in kin for other in group), name]
        groups = [group for group in groups if group not in kin] + [joined]
    return groups


def _units(
    group: Sequence[Known],
    identity: Identity,
    verdicts: Sequence[StoredVerdict],
    slots: int | None,
    notes: dict[str, str],
) -> list[Unit]:
    servers: dict[tuple[str, ...], Known] = {}
    for each in group:
        first = servers.setdefault(identity.twins_of(each.node.name), each)
        if first is not each:
            notes[each.node.name] = f"the same server as {first.node.name}: adds nothing"
    apart = list(servers.values())
    if len(apart) == 1:
        return [Unit(nodes=(apart[0].node.name,), rate=_rate(apart[0]))]
    verdict, why = _verdict(group, apart, verdicts, slots)
    if verdict is not None and len(verdict.use) > 1:
        return _joint(apart, verdict)
    best = max(apart, key=_rate)
    if verdict is not None:
        best = next((each for each in apart if each.address in verdict.use), best)
    names = " ".join(each.node.name for each in apart)
    for each in apart:
        if each is not best:
            notes[each.node.name] = (
                _slower(verdict, best)
                if verdict is not None
                else f"may share a device with {best.node.name}: {why}; run 'tokenmill nodes check --together {names}'"
            )
    return [Unit(nodes=(best.node.name,), rate=_rate(best))]


def _joint(apart: Sequence[Known], verdict: StoredVerdict) -> list[Unit]:
    """The best node, and then all the others at once: nothing is known of some of them."""
    first, *others = sorted(apart, key=_rate, reverse=True)
    most = sum(map(_rate, apart))
    together = min(most, verdict.together / verdict.alone * _rate(first))
    return [
        Unit(nodes=(first.node.name,), rate=_rate(first)),
        Unit(
            nodes=tuple(each.node.name for each in others),
            rate=min(together - _rate(first), _rate(first)),
            after=(first.node.name,),
            pace=together / most,
        ),
    ]


def _slower(verdict: StoredVerdict, best: Known) -> str:
    change = verdict.together / verdict.alone - 1
    said = f"{abs(change):.0%} {'faster' if change > 0 else 'slower'}".replace("%", " %")
    unsure = ", which may be chance" if verdict.low <= 0 <= verdict.high else ""
    return (
        f"a second node of the device of {best.node.name}: measured {said} together on {verdict.date}{unsure}: not used"
    )


def _verdict(
    group: Sequence[Known], apart: Sequence[Known], verdicts: Sequence[StoredVerdict], slots: int | None
) -> tuple[StoredVerdict | None, str]:
    """The newest verdict that fits, or why there is none."""
    wanted = {tuple(sorted(each.address for each in nodes)) for nodes in (group, apart)}
    digests = {each.figure.digest for each in apart if each.figure is not None}
    about = [each for each in verdicts if each.digest in digests and tuple(sorted(each.addresses)) in wanted]
    about.sort(key=lambda each: each.date)
    why = "not measured together"
    for verdict in reversed(about):
        if verdict.alone <= 0:
            continue
        if (verdict.slots, verdict.threads) != (slots, None):  # a plan asks for no threads
            why = f"the verdict of {verdict.date} was measured {verdict.use_in_words}, so not used"
            continue
        other = _other_version(apart, verdict)
        if other:
            why = f"the verdict of {verdict.date} was measured with {other}: not used"
            continue
        return verdict, ""
    return None, why


def _other_version(nodes: Iterable[Known], verdict: StoredVerdict) -> str:
    """The first node that has had another version since, in words."""
    for each in nodes:
        then = verdict.versions.get(each.node.name)
        now = each.figure.version if each.figure is not None else ""
        if then and now and then != now:
            return f"{each.node.name} at version {then}, its figures are of {now}"
    return ""


def _rate(known: Known) -> float:
    assert known.speed is not None
    return known.speed.best
