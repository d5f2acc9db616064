"""The rules of the house, so that they hold without anybody remembering them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("src", "tests", "benchmarks", "models") for path in (ROOT / folder).rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc"}
ROOT_FILES = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "Makefile", "pyproject.toml"}
HEAVY = (
    "torch",
    "ray",
    "numpy",
    "numba",
    "gguf",
    "matplotlib",
    "transformers",
    "tokenizers",
    "rich",
    "jinja2",
    "asyncio",
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_fits_a_reader(path: Path) -> None:
    """No file is longer than 400 lines, no function longer than 60, and no name says nothing."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert path.stem not in FORBIDDEN
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("path", [path for path in SOURCES if "src" in path.parts], ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    """Every module of the package opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_root_holds_only_what_belongs_there() -> None:
    """At the root stand the known documents and build files, and names that begin with a dot."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = {line for line in listed.stdout.splitlines() if "/" not in line}
    assert {name for name in files if not name.startswith(".")} <= ROOT_FILES


def test_help_imports_nothing_heavy() -> None:
    """`tokenmill --help` works without loading any library that is slow to import."""
    code = (
        "import sys; from tokenmill.cli import command\n"
        "try: command(['--help'], prog_name='tokenmill')\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands" in done.stdout
    assert done.stderr.strip() == "[]"


def test_layers_are_complete() -> None:
    """Every package and module of tokenmill stands in the layer contract."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "exhaustive = true" in text


def test_no_machine_paths() -> None:
    """The project names no path of the machine it was written on."""
    for path in [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert f"{ROOT.parent}/" not in text, path
