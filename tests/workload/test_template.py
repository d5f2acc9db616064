"""Prompt templates: what they can do, and what neither they nor the data can."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tokenmill.errors import UsageError
from tokenmill.workload import ROWS, Spec
from tokenmill.workload.faults import RowFault
from tokenmill.workload.template import MAX_STEPS, PromptTemplate
from workload.reading import fault, faults, jsonl, python_requests, requests, scanned, write


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ text.split()[:2] | join(' ') }}", "the old"),
        ("Summarise: {{ text | upper }}", "Summarise: THE OLD RIVER"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }}{% if not loop.last %}, {% endif %}{% endfor %}", "1a, 2b"),
        ("{{ row['my column'] }}", "7"),
        ("{{ text.replace('old', 'new') }} {{ text | replace('o', '0') }}", "the new river the 0ld river"),
        ("{{ deep.x }}{{ deep['x'] }}", "11"),
        ("{{ people | join('+', attribute='name') }}", "Ann+Bo"),
        ("{{ missing | default('none') }}", "none"),
    ],
)
def test_a_template_makes_the_prompt(tmp_path: Path, template: str, prompt: str) -> None:
    """Fields of the row are variables; any other name is reached through row."""
    row = {"text": "the old river", "tags": ["a", "b"], "my column": 7, "deep": {"x": 1}}
    row["people"] = [{"name": "Ann"}, {"name": "Bo"}]
    assert [r.prompt for r in python_requests([row], tmp_path, template=template)] == [prompt]


def test_a_line_of_text_is_the_variable_prompt(tmp_path: Path) -> None:
    """Templates go with plain text as well."""
    spec = Spec(source=str(write(tmp_path, "bees\n", "in.txt")), template="About {{ prompt }}.")
    assert [request.prompt for request in requests(spec, tmp_path)] == ["About bees."]


def test_fields_a_template_uses_are_no_options(tmp_path: Path) -> None:
    """A column that the template reads is data even if it is named like an option; others still are options."""
    row = {"temperature": "12 degrees", "max_tokens": 4}
    (request,) = python_requests([row], tmp_path, template="Weather at {{ temperature }}")

    assert request.prompt == "Weather at 12 degrees"
    assert request.sampling.max_tokens == 4


def test_an_undefined_name_is_a_fault_of_the_row(tmp_path: Path) -> None:
    """The fault names what is missing and what there is."""
    found = faults(jsonl({"text": "a"}, {"txt": "b"}), tmp_path, template="{{ text }}")
    assert found == ("line 2: template: 'text' is undefined; the row has 'txt'",)


@pytest.mark.parametrize(
    "template",
    [
        "{{ a",
        "{% if a %}",
        "{{ a | nosuch }}",
        "{{ a | random }}",
        "{{ a | center(9) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% for a in b recursive %}{{ loop(a) }}{% endfor %}",
        "{{ a }}" + "x" * 70_000,
        "   ",
    ],
)
def test_a_template_that_can_not_be_used_is_refused_before_reading(tmp_path: Path, template: str) -> None:
    """Compile errors come before any row, in one line."""
    with pytest.raises(UsageError, match="template") as caught:
        scanned(Spec(source=ROWS, template=template), tmp_path, rows=[{"a": "x"}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ text.__init__.__globals__ }}",
        "{{ ''.format.__self__ }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ row.clear() }}",
        "{{ deep.update({'x': 2}) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(10000000000) %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ 10000000000 * 'x' }}",
        "{{ [0] * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 9 ** 999999999 }}",
        "{{ 9 ** 60 * 9 ** 60 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ 'x'.ljust(9999999999) }}",
        "{{ 'x'.zfill(9999999999) }}",
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
        "{{ range(99999) | list | join('x' * 100000) }}",
        "{% for a in range(2000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ text + 1 }}",
        "{{ [1, 2][9] + 1 }}",
        "{{ lipsum() }}",
        "{{ range(99999) | list + range(99999) | list + 'x' }}",
        "{{ people | join('+', attribute='nosuch') }}",
        "{% set x = namespace(a=1) %}",
        "{{ ['x' * 9000000, 'x' * 9000000] | join }}",
        "{{ 'x' * 9000000 + 'x' * 9000000 }}",
        "{{ ('x' * 5000000).join(['a', 'b', 'c', 'd', 'e']) }}",
        "{{ '\ud800' }}",
    ],
)
def test_hostile_templates_end_as_a_fault(template: str) -> None:
    """Reaching attributes, changing data, long loops, huge values and plain mistakes end as one line."""
    row = {"text": "a", "deep": {"x": 1}, "people": [{"name": "Ann"}]}
    with pytest.raises(RowFault, match="template: ") as caught:
        PromptTemplate(template).render(row)
    assert row == {"text": "a", "deep": {"x": 1}, "people": [{"name": "Ann"}]}
    assert "\n" not in str(caught.value)


def test_data_is_never_a_template() -> None:
    """Braces in a row are text."""
    assert PromptTemplate("{{ text }}").render({"text": "{{ 1 / 0 }}"}) == "{{ 1 / 0 }}"


def test_the_budget_of_steps_is_per_prompt_and_per_thread() -> None:
    """Many prompts of many threads each have the whole budget."""
    template = PromptTemplate("{% for a in range(" + str(MAX_STEPS - 1) + ") %}{% endfor %}{{ x }}")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(template.render({"x": "ok"}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ok"] * 4
    assert template.render({"x": "again"}) == "again"
    assert template.render({"x": "and again"}) == "and again"


def test_an_empty_result_is_an_empty_prompt(tmp_path: Path) -> None:
    """A template that yields nothing for a row is a fault of that row."""
    assert "the prompt is empty" in fault(jsonl({"a": ""}), tmp_path, template="{{ a }}")
