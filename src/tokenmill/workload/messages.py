"""Conversations as a row gives them: text in three roles, nothing else yet."""

from __future__ import annotations

from tokenmill.request import Message
from tokenmill.workload.faults import RowFault, shown

ROLES = ("system", "user", "assistant")


def read_messages(value: object) -> tuple[Message, ...]:
    """The messages of one row in order; raises `RowFault`."""
    if not isinstance(value, list):
        raise RowFault(f"messages must be a list of objects with role and content, not {shown(value)}")
    if not value:
        raise RowFault("messages is empty; add one with role user")
    messages = tuple(_message(item, number) for number, item in enumerate(value, 1))
    if not messages[-1].content.strip():
        raise RowFault(f"message {len(messages)} is empty, so there is nothing to answer; add text")
    return messages


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """The conversation with the run's system message in front, unless it has one of its own."""
    if system is None or any(message.role == "system" for message in messages):
        return messages
    return (Message("system", system), *messages)


def _message(item: object, number: int) -> Message:
    if not isinstance(item, dict):
        raise RowFault(f"message {number} must be an object with role and content, not {shown(item)}")
    role = item.get("role")
    if role not in ROLES:
        written = "is missing" if "role" not in item else f"{shown(role)} is not supported"
        raise RowFault(f"message {number}: role {written}; use system, user or assistant")
    for name, value in item.items():
        if name not in ("role", "content") and value not in (None, []):
            raise RowFault(f"message {number}: {shown(name)} is not supported yet; remove it")
    return Message(str(role), _content(item.get("content"), number))


def _content(content: object, number: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowFault(f"message {number}: content must be a string, not {shown(content)}")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise RowFault(f"message {number}: content part {shown(kind)} is not supported yet; only text is")
    if len(content) != 1 or not isinstance(content[0].get("text"), str):
        raise RowFault(f"message {number}: content has {len(content)} text parts; write it as one string")
    text: str = content[0]["text"]
    return text
