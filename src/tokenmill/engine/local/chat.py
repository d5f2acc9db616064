"""The chat template of a model: messages in, one prompt out, as `apply_chat_template` of transformers writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2

from tokenmill.engine.local.meter import Exhausted, metered
from tokenmill.engine.local.sandbox import SOURCE_LIMIT, Sandbox
from tokenmill.errors import TokenmillError
from tokenmill.model.files import BadModel, find_file, read_bytes, read_object
from tokenmill.request import Message

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

#: What faulty template code raises, at compiling and at rendering; anything else is a fault of ours.
_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


class BadTemplate(TokenmillError):
    """A chat template that fails, or that must not go on."""


class ChatTemplate:
    """One template; `place` names it in errors. `now` gives the date to templates that ask for it."""

    def __init__(
        self,
        source: str,
        place: str,
        special_tokens: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._place = place
        self._special_tokens = dict(special_tokens or {})
        if len(source) > SOURCE_LIMIT:
            raise BadTemplate(f"{place}: a template of {len(source)} characters is above the limit of {SOURCE_LIMIT}")
        sandbox = Sandbox({"raise_exception": _raise_exception, "strftime_now": lambda form: _strftime(now(), form)})
        try:
            self._template = sandbox.from_string(source)
        except _FAULTS as error:
            raise BadTemplate(f"{place}: the chat template can't be compiled ({_reason(error)})") from error

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The prompt; raises `BadTemplate` when the template refuses the messages, fails or goes over a limit."""
        values = [{"role": message.role, "content": message.content} for message in messages]
        size = sum(len(message.role) + len(message.content) for message in messages)
        try:
            with metered(size):
                return self._template.render(
                    messages=values,
                    tools=None,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                    **self._special_tokens,
                )
        except Exhausted as error:
            raise BadTemplate(f"{self._place}: the chat template was stopped because {error}") from error
        except _FAULTS as error:
            raise BadTemplate(f"{self._place}: the chat template failed ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0][:200]}" if lines[0] else type(error).__name__


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _strftime(now: datetime, form: str) -> str:
    if len(form) > 100:
        raise ValueError(f"a date format of {len(form)} characters")
    return now.strftime(form)


def read_template(folder: Path, now: Callable[[], datetime] = datetime.now) -> ChatTemplate | None:
    """The template of the model in `folder`, None if it has none."""
    settings_path = find_file(folder, "tokenizer_config.json")
    settings = read_object(settings_path) if settings_path else {}
    found = _find_source(folder, settings)
    if found is None:
        return None
    source, place = found
    tokens = {name: _token_text(settings.get(name)) for name in SPECIAL_TOKENS}
    return ChatTemplate(source, place, {name: text for name, text in tokens.items() if text is not None}, now)


def _token_text(value: object) -> str | None:
    """A special token as tokenizer_config.json writes it: a text, or an object with its `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _find_source(folder: Path, settings: Mapping[str, object]) -> tuple[str, str] | None:
    """Template and where it stands: a file of its own comes before the tokenizer's settings."""
    path = find_file(folder, "chat_template.jinja")
    if path is not None:
        try:
            return read_bytes(path, 4 * SOURCE_LIMIT).decode(), str(path)
        except UnicodeDecodeError as error:
            raise BadModel(f"{path} isn't UTF-8 (byte {error.start}); download it again") from error
    place, stated = str(folder / "tokenizer_config.json"), settings.get("chat_template")
    if stated is None and (path := find_file(folder, "chat_template.json")) is not None:
        place, stated = str(path), read_object(path).get("chat_template")
    if isinstance(stated, list):
        stated = _default_of(stated, place)
    if stated is None or isinstance(stated, str):
        return None if stated is None else (stated, place)
    raise BadModel(f"{place}: chat_template must be a text or a list of named ones")


def _default_of(named: Sequence[object], place: str) -> object:
    templates = {entry.get("name"): entry.get("template") for entry in named if isinstance(entry, dict)}
    if "default" not in templates:
        raise BadModel(f"{place}: none of the chat templates {sorted(map(str, templates))} is named 'default'")
    return templates["default"]
