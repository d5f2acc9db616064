"""A page in one file: no script, nothing from elsewhere, and a policy that allows exactly its own style sheet.

Everything that a template prints is made visible and escaped, by the environment and not by each template, so a name or
an answer stays text wherever it is put. Only what `Markup` marks as ours goes in as it is.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import metadata
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tokenmill.report.ink import variables
from tokenmill.report.visible import visible

FOLDER = "templates"


def render(template: str, charts_css: str, **content: Any) -> str:
    """The page of a template, with its style sheet and the policy that names its hash."""
    style = f"{_colours()}{files('tokenmill.report').joinpath(FOLDER, 'page.css').read_text('utf-8')}{charts_css}"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), policy=Markup(policy), version=metadata.version("tokenmill"), **content)
    )


def _colours() -> str:
    dark = variables(dark=True)
    return (
        f":root{{color-scheme:light dark;{variables(dark=False)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tokenmill.report", FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible(str(value))
