"""The figures of one or several runs as CSV: one line for each, with unit and definition, or why it is n/a."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from tokenmill.report.dossier import Dossier
from tokenmill.report.figures import everything
from tokenmill.report.visible import cell

HEAD = ("run", "figure", "value", "unit", "reason", "definition")


def encode(dossiers: Iterable[Dossier]) -> bytes:
    """UTF-8 with a head line; no cell can steer a terminal or run as a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for dossier in dossiers:
        run = cell(dossier.run)
        for each in everything(dossier.certificate):
            value = "" if each.shown.value is None else f"{each.shown.value:.9g}"
            cells = (each.name, value, each.shown.unit, each.shown.reason, each.definition)
            writer.writerow((run, *map(_text, cells)))
        for kind, count in sorted(dossier.certificate.scope.failed.items()):
            writer.writerow((run, cell(f"scope.failed.{kind}"), count, "rows", "", "rows whose failure is final"))
    return text.getvalue().encode()


def _text(value: str) -> str:
    """A negative number is a number and no formula."""
    try:
        float(value)
    except ValueError:
        return cell(value)
    return value
