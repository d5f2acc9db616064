"""The charts of a report as PNG and SVG files, for a paper or a slide; on light paper, text as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from tokenmill.report.plots import Chart, drawing, figure

#: Dots to an inch of a PNG.
DOTS = 200


def files(charts: Iterable[Chart]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of two files for each chart; equal charts give equal bytes."""
    for chart in charts:
        made = figure(chart)
        with drawing():
            for kind, metadata in (("svg", {"Date": None, "Title": chart.title}), ("png", {"Title": chart.title})):
                buffer = io.BytesIO()
                made.savefig(buffer, format=kind, dpi=DOTS if kind == "png" else "figure", metadata=metadata)
                yield f"{chart.name}.{kind}", buffer.getvalue()
