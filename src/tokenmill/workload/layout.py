"""How the bytes of one row become a request; the scan and the reader both go through here.

A row names its prompt in one of four ways: as text of its own (`txt`), in the field `prompt` or `messages`, in the
body of an OpenAI batch line, or through the spec's template or prompt column, which leaves all other fields to the
user.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.request import Message, Sampling
from tokenmill.workload.batch_line import COMPLETIONS, batch_body, is_batch_line
from tokenmill.workload.faults import RowFault, shown
from tokenmill.workload.messages import read_messages, with_system
from tokenmill.workload.options import KNOWN, UNSUPPORTED, check_supported, misspelt, read_options
from tokenmill.workload.spec import Spec
from tokenmill.workload.strict_json import decode, parse_object

if TYPE_CHECKING:
    from tokenmill.workload.template import PromptTemplate

MAX_ID = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Field names remembered as harmless; beyond this many, names are judged anew each time.
_REMEMBERED = 10_000


class Row(Struct, frozen=True, gc=False):
    """One row as it will be asked; `custom_id` and `model` are None where the row gives none.

    `raw`: its prompt goes to the model as it stands.
    """

    custom_id: str | None
    prompt: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    model: str | None = None
    raw: bool = False

    @property
    def asked(self) -> str:
        """The text that says what to do: the prompt, or the last message of the user."""
        if self.prompt is not None:
            return self.prompt
        return next((turn.content for turn in reversed(self.messages) if turn.role == "user"), "")


class Layout:
    """Reads rows of one input. `kind` is `txt`, `jsonl`, `openai`, `episodes`, or `table` for cells of CSV and Parquet.

    The fields of episodes are all data: what a robot is asked may well have a `stop` or a `seed` that is no option.
    """

    def __init__(self, spec: Spec, kind: str) -> None:
        self.spec = spec
        self.kind = kind
        self.id_name = spec.id_column or "custom_id"
        self.template = _compile(spec.template)
        self._lenient = kind == "table"
        self._own = spec.template is not None or spec.prompt_column is not None
        self._batch = kind == "openai" or (not self._own and spec.format is None and kind == "jsonl")
        used = self.template.fields if self.template else frozenset[str]()
        self._data = used | {name for name in (spec.prompt_column, spec.id_column) if name is not None}
        self._harmless = {*KNOWN, *self._data}
        if kind == "episodes":
            _check_episodes(spec)

    def fields(self, data: bytes, offset: int) -> dict[str, object]:
        """The row as an object; raises `RowFault` if it is none."""
        found: dict[str, object] = (
            {"prompt": decode(data, offset)} if self.kind == "txt" else parse_object(data, offset)
        )
        if self.spec.text_as is not None:
            self._add_text(found, self.spec.text_as)
        return found

    def _add_text(self, fields: dict[str, object], name: str) -> None:
        """Puts the text of a row where templates look for it."""
        column = self.spec.text_from
        if column is not None:
            if column not in fields:
                raise RowFault(f"prompt column {column!r} is missing; the row has {_names(fields)}")
            fields[name] = fields[column]
        elif name not in fields:
            text = fields.get("answer" if self.kind == "episodes" else "prompt")
            if isinstance(text, str):
                fields[name] = text

    def custom_id(self, fields: dict[str, object]) -> str | None:
        """The row's own id, None if it has none; raises `RowFault` for one that can't be used."""
        value = fields.get(self.id_name)
        if type(value) is int and self.spec.id_column is not None:
            return str(value)
        if value is not None:
            return checked_id(self.id_name, value)
        if self.spec.id_column is not None:
            raise RowFault(f"id column {self.id_name!r} is missing or empty; the row has {_names(fields)}")
        return None

    def row(self, fields: dict[str, object], custom_id: str | None) -> Row:
        """The row as a request; raises `RowFault`."""
        if self._batch and (self.kind == "openai" or is_batch_line(fields)):
            return self._asked(custom_id, batch_body(fields), fields["url"] == COMPLETIONS)
        if self._own:
            prompt = self._own_prompt(fields)
            sampling = self.spec.sampling
            if self.kind != "episodes":
                sampling = read_options(fields, sampling, lenient=self._lenient, data=self._data)
            return self._row(custom_id, prompt, sampling, None, self._is_raw(False))
        for name in fields:
            if name not in self._harmless:
                self._judge(name, fields[name])
        return self._asked(custom_id, fields, False)

    def _is_raw(self, by_row: bool) -> bool:
        """Whether the prompt goes to the model as it stands: as the option says, else as the row itself does."""
        return by_row if self.spec.endpoint is None else self.spec.endpoint == "completions"

    def _asked(self, custom_id: str | None, body: dict[str, object], by_row: bool) -> Row:
        sampling = read_options(body, self.spec.sampling, lenient=self._lenient, data=self._data)
        model = body.get("model")
        if model is not None and not isinstance(model, str):
            raise RowFault(f"model must be a string, not {shown(model)}")
        prompt, messages = body.get("prompt"), body.get("messages")
        if messages is None:
            if prompt is None:
                raise RowFault(f"prompt is missing; the row has {_names(body)}; name another with --prompt-column")
            return self._row(custom_id, prompt, sampling, model, self._is_raw(by_row))
        if self._is_raw(by_row):
            raise RowFault("messages need a chat; give a prompt, or use the endpoint chat")
        if prompt is not None:
            raise RowFault("both prompt and messages are given; keep one")
        turns = with_system(read_messages(messages), self.spec.system)
        if any("\0" in turn.content for turn in turns):
            raise RowFault("a message holds a NUL character; remove it")
        return Row(custom_id, None, turns, sampling, model)

    def _row(self, custom_id: str | None, prompt: object, sampling: Sampling, model: str | None, raw: bool) -> Row:
        if not isinstance(prompt, str):
            raise RowFault(f"{self.spec.prompt_column or 'prompt'} must be a string, not {shown(prompt)}")
        if not prompt or prompt.isspace():
            raise RowFault("the prompt is empty; add text or remove the row")
        if "\0" in prompt:
            raise RowFault("the prompt holds a NUL character; remove it")
        if self.spec.system is None:
            return Row(custom_id, prompt, (), sampling, model, raw)
        if raw:
            raise RowFault("the url asks for a completion, which has no system message; leave out the system message")
        turns = (Message("system", self.spec.system), Message("user", prompt))
        return Row(custom_id, None, turns, sampling, model)

    def _own_prompt(self, fields: dict[str, object]) -> object:
        if self.template is not None:
            return self.template.render(fields)
        column = self.spec.prompt_column
        if column not in fields:
            raise RowFault(f"prompt column {column!r} is missing; the row has {_names(fields)}")
        return fields[column]

    def _judge(self, name: str, value: object) -> None:
        try:
            if name in UNSUPPORTED:
                check_supported(name, value)
                return
        except RowFault as fault:
            raise RowFault(f"{fault}, or make it data with --prompt-column") from fault
        close = misspelt(name)
        if close is not None:
            raise RowFault(f"field {shown(name)} is not known; did you mean {close}? Or make it data: --prompt-column")
        if len(self._harmless) < _REMEMBERED:
            self._harmless.add(name)


def checked_id(name: str, value: object) -> str:
    """An id that can be used; raises `RowFault`."""
    if not isinstance(value, str):
        raise RowFault(f"{name} must be a string, not {shown(value)}; put it in double quotes")
    if not value.strip():
        raise RowFault(f"{name} is empty; give an id or leave the field out")
    if len(value) > MAX_ID:
        raise RowFault(f"{name} has {len(value)} characters, more than {MAX_ID}; shorten it")
    if not value.isprintable() and _CONTROL.search(value):
        raise RowFault(f"{name} {shown(value)} holds a control character; remove it")
    return value


def _check_episodes(spec: Spec) -> None:
    if spec.template is None and spec.prompt_column is None:
        raise UsageError("episodes hold no prompts; give --pipeline, a --template, or --prompt-column answer")
    if spec.id_column is not None:
        raise UsageError("dialogs are called by episode_id and number, such as e1/2; leave --id-column out")


def _compile(source: str | None) -> PromptTemplate | None:
    if source is None:
        return None
    if not source.strip():
        raise UsageError("the template is empty; write one like 'Summarise: {{ text }}'")
    from tokenmill.workload.template import PromptTemplate  # loads Jinja2, which most commands never need

    return PromptTemplate(source)


def _names(fields: dict[str, object]) -> str:
    return shown(", ".join(fields)) if fields else "no fields"
