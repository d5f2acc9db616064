"""Chat templates render as transformers renders them, and hostile ones come to an end."""

from __future__ import annotations

import json
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from engine.loader.saved_models import byte_level_tokenizer, edit_json, save_tokenizer
from tokenmill.engine.local.chat import ChatTemplate, read_template
from tokenmill.errors import TokenmillError
from tokenmill.request import Message

CHATML = """{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}
"""
LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " ~ date_string ~ "\\n\\n" ~ system_message ~ "<|eot_id|>" }}
{%- for message in messages %}
    {%- if loop.first and message.content is string and message.content|length > 3 %}{{- "long " }}{%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools is not none %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set ns = namespace(index=0, last=none) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("roles must alternate user/assistant, not " + message["role"]) }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- else %}{% generation %}{{- " " + message["content"] + eos_token }}{% endgeneration %}{%- endif %}
{%- endfor %}
"""
THINKING = """{%- macro block(role, text) -%}<|{{ role }}|>{{ text }}{%- endmacro %}
{%- set ns = namespace(last=messages|length - 1, found=[]) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and message.content.startswith('<tool>') %}{% continue %}{% endif %}
    {%- set ns.found = ns.found + [message.content.split('</think>')[-1].lstrip('\\n')] %}
    {%- if index == ns.last and message.role not in ['user', 'system'] %}{% break %}{% endif %}
{%- endfor %}
{%- for text in ns.found|reverse %}{{ block('x', text|replace('a', 'aa')|upper) }}{% endfor %}
{{- {'roles': messages|map(attribute='role')|list, 'n': 2 * 3} | tojson }}
{{- messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join(', ') }}
{{- messages[0].get('name', 'nobody') }} {{ messages[0].items()|list|length }} {{ [1, 2.5, none, true, (1, 'x')] }}
{%- for key, value in messages[0]|dictsort %}{{ key }}={{ value|default('none')|indent(2) }};{% endfor %}
"""
TEMPLATES = {"ChatML": CHATML, "Llama 3": LLAMA_3, "Mistral": MISTRAL, "thinking": THINKING}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(scope="module")
def oracle() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=byte_level_tokenizer(), **SPECIAL)


def talk(*contents: str, system: str | None = None) -> list[Message]:
    turns = [Message(("user", "assistant")[at % 2], content) for at, content in enumerate(contents)]
    return turns if system is None else [Message("system", system), *turns]


def plain(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


CONTENTS = st.lists(
    st.text(max_size=20) | st.sampled_from(["<tool>x", "a</think>\n\nb", " <b>&'\" "]), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(list(TEMPLATES)), contents=CONTENTS, system=st.none() | st.text(max_size=9), ask=st.booleans()
)
def test_prompts_are_those_of_transformers(
    oracle: PreTrainedTokenizerFast, name: str, contents: list[str], system: str | None, ask: bool
) -> None:
    """Templates as models have them give the same text as `apply_chat_template`, whatever the messages say."""
    messages = talk(*contents, system=system)
    template = ChatTemplate(TEMPLATES[name], "test", SPECIAL)

    assert template.render(messages, add_generation_prompt=ask) == oracle.apply_chat_template(
        plain(messages), chat_template=TEMPLATES[name], add_generation_prompt=ask, tokenize=False
    )


def test_the_date_is_handed_in() -> None:
    """`strftime_now` takes the day from the clock given, so a prompt can be made again."""
    template = ChatTemplate(LLAMA_3, "test", SPECIAL, now=lambda: datetime(2024, 7, 26))

    assert "Today Date: 26 Jul 2024" in template.render(talk("x"))


def test_a_template_can_refuse_messages() -> None:
    """What the template says with `raise_exception` reaches the user, with the place of the template."""
    template = ChatTemplate(MISTRAL, "here.jinja", SPECIAL)

    with pytest.raises(TokenmillError, match=r"here\.jinja: .*roles must alternate user/assistant, not assistant"):
        template.render([Message("assistant", "x")])


BIG = "{% set ns = namespace(x='aaaaaaaa', l=[1]) %}{% for i in range(64) %}"
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "silent macro": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(200) }}",
    "endless recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "range": "{{ range(10 ** 12)|list }}",
    "doubling with +": BIG + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling with ~": BIG + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling with *": BIG + "{% set ns.x = ns.x * 2 %}{% endfor %}",
    "doubling with join": BIG + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "doubling with the method join": BIG + "{% set ns.x = ''.join([ns.x, ns.x]) %}{% endfor %}",
    "doubling with replace": BIG + "{% set ns.x = ns.x|replace('a', 'aaaa') %}{% endfor %}",
    "doubling with the method replace": BIG + "{% set ns.x = ns.x.replace('a', 'aaaa') %}{% endfor %}",
    "doubling with a block": BIG + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling with a macro": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}"
    + BIG
    + "{% set ns.x = m(ns.x) %}{% endfor %}",
    "doubling with a call": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + BIG
    + "{% set y %}{% call m() %}{{ ns.x }}{% endcall %}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling with a filter block": BIG
    + "{% set y %}{% filter upper %}{{ ns.x }}{{ ns.x }}{% endfilter %}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling with tojson": BIG + "{% set ns.x = (ns.x ~ '\"')|tojson|tojson|tojson|tojson %}{% endfor %}",
    "doubling with escape": BIG + "{% set ns.x = ('&' ~ ns.x)|string|escape|string|escape ~ ns.x %}{% endfor %}",
    "doubling a list": BIG + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "nested lists": BIG + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "nested tuples": BIG + "{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
    "nested dicts": BIG + "{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l|tojson }}",
    "nested calls of dict": BIG + "{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l|tojson }}",
    "comparison of nested lists": BIG
    + "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
    "repeated text": "{{ 'a' * 10 ** 9 }}",
    "repeated text from the left": "{{ 10 ** 9 * 'a' }}",
    "repeated list": "{{ [1] * 10 ** 9 }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "squares": "{% set ns = namespace(x=10) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "center": "{{ 'a'|center(10 ** 9) }}",
    "the method center": "{{ 'a'.center(10 ** 9) }}",
    "ljust, found by name": "{{ ('a'|attr('ljust'))(10 ** 9) }}",
    "zfill by subscript": "{{ 'a'['zfill'](10 ** 9) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "formatting with %": "{{ '%1000000000d' % 1 }}",
    "the filter format": "{{ '%1000000000d'|format(1) }}",
    "indent": "{{ 'a\\nb'|indent(10 ** 9) }}",
    "indent of JSON": "{{ [1]|tojson(indent=10 ** 9) }}",
    "separators of JSON": "{{ ([0] * 9999)|tojson(separators=['a' * 9999, 'b']) }}",
    "join by a long text": "{{ (range(9999)|list)|join('a' * 9999) }}",
    "batch": "{{ [1]|batch(10 ** 9, 0)|list }}",
    "wordwrap": "{{ 'a b'|wordwrap(1, wrapstring='a' * 10 ** 8) }}",
    "lipsum": "{{ lipsum(n=10 ** 9) }}",
    "lazy copies": "{% set big = 'a' * 90000 %}{{ range(99999)|map('default', big)|map('upper')|list|length }}",
    "lazy defaults": "{% set big = 'a' * 90000 %}"
    "{{ range(99999)|map(attribute='x', default=big)|map('upper')|list|length }}",
    "text of shared values": "{% set big = 'a' * 90000 %}{% set l = [big, big, big, big] %}{% set m = [l, l, l, l] %}"
    "{% set n = [m, m, m, m] %}{% set o = [n, n, n, n] %}{{ o|string|length }}",
    "many large texts": "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set ns.l = ns.l + ['a' * 9999 ~ i] %}{% endfor %}",
    "output": "{% set big = 'a' * 90000 %}{% for i in range(99999) %}{{ big }}{% endfor %}",
    "splitting": "{% set ns = namespace(l=[]) %}{% for i in range(999) %}"
    "{% set ns.l = ns.l + [('a,' * 9999).split(',')] %}{% endfor %}",
    "letters of a text": "{{ ('a' * 200000)|list|length }}",
    "format of a date": "{{ strftime_now('%1000000000Y' * 50) }}",
    "class": "{{ ''.__class__.__mro__ }}{{ raise_exception('reached') }}",
    "subclasses": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['x'] }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__['x'] }}",
    "the filter attr": "{{ ''|attr('__class__')|attr('x') }}",
    "map to an attribute": "{{ ['']|map(attribute='__class__')|map(attribute='x')|list }}{{ raise_exception('out') }}",
    "append": "{{ messages.append(1) }}",
    "update": "{{ messages[0].update({'role': 'x'}) }}",
    "a hidden name": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "a hidden name at the start": "{{ namespace(__class__=1) }}",
    "a namespace as text": "{{ namespace(a=1)|string }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.environ }}",
    "unknown filter": "{{ 'a'|evil }}",
    "unknown function": "{{ open('/etc/passwd') }}",
    "division by zero": "{{ 1 / 0 }}",
    "missing key": "{{ messages[0]['x']['y'] }}",
    "bad types": "{{ 'a' + 1 }}",
    "a function as text": "{{ range }}",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_templates_end_with_an_error(case: str) -> None:
    """Each attempt to loop, to fill the memory or to get out is stopped, in little memory, and tracing is as before."""
    tracer = sys.gettrace()
    tracemalloc.start()
    try:
        with pytest.raises(TokenmillError, match="evil template") as refusal:
            ChatTemplate(HOSTILE[case], "evil template").render(talk("hello"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 100_000_000
    assert sys.gettrace() is tracer
    assert "\n" not in str(refusal.value)
    assert not any(word in str(refusal.value) for word in ("reached", "(TemplateError: out)"))


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ 'a", "{% generation %}", "{{ " + "9" * 5000 + " }}", "(" * 10, "x" * 200_000, "{{" + "(" * 5000],
)
def test_templates_that_cannot_be_compiled_are_refused(source: str) -> None:
    """Syntax errors, oversized sources and absurd nesting are found when the template is read."""
    if source == "(" * 10:
        assert ChatTemplate(source, "plain").render([]) == source
        return
    with pytest.raises(TokenmillError, match=r"broken\.jinja"):
        ChatTemplate(source, "broken.jinja")


def test_the_allowance_grows_with_the_messages() -> None:
    """A conversation of a megabyte still renders."""
    messages = talk(*("word " * 20_000 for _ in range(11)))
    prompt = ChatTemplate(LLAMA_3, "test", SPECIAL).render(messages)

    assert len(prompt) > 1_000_000
    assert len(ChatTemplate(THINKING, "test", SPECIAL).render(messages)) > 1_000_000


def test_values_stay_what_they_are() -> None:
    """Measuring changes neither the truth of an empty list nor the order of arguments nor blocks and scopes."""
    source = (
        "{% set a = [] %}{{ a or 'empty' }} {{ 'x' ~ 1 ~ none ~ [1] }} {{ ('b', 'a')|sort|first }} "
        "{% for x, y in [(1, 2), (3, 4)] %}{{ x * y }},{% endfor %} {{ 'a-b'.replace('-', '+') }} "
        "{% filter upper %}up{% endfilter %} {{ 7 % 4 }} {{ 2 ** 10 }} {{ missing }} {{ missing is defined }}"
    )

    assert ChatTemplate(source, "test").render([]) == "empty x1None[1] a 2,12, a+b UP 3 1024  False"


def test_templates_are_found_where_transformers_puts_them(tmp_path: Path) -> None:
    """A file of its own comes first, then the tokenizer's settings, then chat_template.json; none is no error."""
    save_tokenizer(tmp_path, byte_level_tokenizer(), bos_token={"content": "<s>"})
    settings = tmp_path / "tokenizer_config.json"

    def rendered() -> str | None:
        template = read_template(tmp_path)
        return None if template is None else template.render(talk("x"))

    assert rendered() is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert rendered() == "json"
    edit_json(settings, chat_template="{{ bos_token }}{{ messages[0].content }}")
    assert rendered() == "<s>x"
    edit_json(settings, chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}])
    assert rendered() == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert rendered() == "file"


@pytest.mark.parametrize(
    "stated", [1, {}, [], [{"name": "rag", "template": "r"}], [None], [{"name": "default", "template": 1}]]
)
def test_settings_without_a_usable_template_are_refused(tmp_path: Path, stated: object) -> None:
    """A template of the wrong type, or a list without a default, is named with its file."""
    edit_json(tmp_path / "tokenizer_config.json", chat_template=stated)

    with pytest.raises(TokenmillError, match=r"tokenizer_config\.json"):
        read_template(tmp_path)


def test_a_template_must_be_utf8(tmp_path: Path) -> None:
    """The broken byte is named."""
    (tmp_path / "chat_template.jinja").write_bytes(b"ok\xff")

    with pytest.raises(TokenmillError, match="byte 2"):
        read_template(tmp_path)
