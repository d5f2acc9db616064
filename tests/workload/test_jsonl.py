"""JSONL rows and OpenAI batch lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.request import Message, Sampling
from tokenmill.workload import Reader, Spec
from tokenmill.workload.faults import KEPT
from workload.reading import fault, faults, jsonl, requests, scanned, write

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def line(**changes: object) -> dict[str, object]:
    whole = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    return {**whole, **changes}


def test_own_options_of_a_row_win(tmp_path: Path) -> None:
    """Options of the row replace the defaults one by one; null leaves the default."""
    rows = jsonl(
        {"custom_id": "a", "prompt": "x", "temperature": 1, "top_p": 0.5, "top_k": 4, "seed": 3, "stop": "END"},
        {"prompt": "y", "max_completion_tokens": 9, "temperature": None, "stop": ["a", "b"]},
    )
    spec = Spec(source=str(write(tmp_path, rows)), sampling=Sampling(max_tokens=50, temperature=0.25))
    first, second = requests(spec, tmp_path)

    assert (first.custom_id, first.prompt) == ("a", "x")
    assert first.sampling == Sampling(max_tokens=50, temperature=1.0, top_p=0.5, top_k=4, seed=3, stop=("END",))
    assert (second.custom_id, second.row) == ("row-2", 1)
    assert second.sampling == Sampling(max_tokens=9, temperature=0.25, stop=("a", "b"))


def test_conversations_keep_their_turns_and_their_own_system_message(tmp_path: Path) -> None:
    """The run's system message is added only where a row has none."""
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": [{"type": "text", "text": "q"}]}]
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    path = write(tmp_path, jsonl({"messages": own}, {"messages": plain}))
    first, second = requests(Spec(source=str(path), system="run's"), tmp_path)

    assert first.messages == (Message("system", "mine"), Message("user", "q"))
    assert [turn.content for turn in second.messages] == ["run's", "q", "a", "r"]


def test_data_columns_are_kept_and_can_be_read_again(tmp_path: Path) -> None:
    """Fields of no meaning to us stay with the row, in order, for the export."""
    row = {"topic": "bees", "prompt": "x", "year": 1999, "ratio": 0.5, "deep": {"a": [None, True]}}
    spec = Spec(source=str(write(tmp_path, jsonl(row))))
    (entry,), source = scanned(spec, tmp_path)
    with Reader(spec, source) as reader:
        assert list(reader.fields(entry.offset, entry.length, entry.line).items()) == list(row.items())


def test_prompt_column_leaves_other_fields_to_the_user(tmp_path: Path) -> None:
    """With a prompt column, fields that would be refused are data, and an id column names the rows."""
    row = {"key": 7, "question": "why?", "prompt": 5, "n": 3, "tools": ["x"], "temperatur": 1, "max_tokens": 4}
    spec = Spec(source=str(write(tmp_path, jsonl(row))), prompt_column="question", id_column="key")
    (request,) = requests(spec, tmp_path)

    assert (request.custom_id, request.prompt, request.sampling.max_tokens) == ("7", "why?", 4)


def test_batch_lines_are_recognised_and_read(tmp_path: Path) -> None:
    """A batch line gives its body's messages or prompt; neutral values of unsupported parameters pass."""
    body = {"prompt": "p", "n": 1, "stream": False, "logprobs": None, "user": "u", "response_format": {"type": "text"}}
    plain = line(url="/v1/completions", body=body)
    for options in ({}, {"format": "openai"}):
        (first,) = requests(Spec(source=str(write(tmp_path, jsonl(line()))), **options), tmp_path)
        (second,) = requests(Spec(source=str(write(tmp_path, jsonl(plain))), **options), tmp_path)
        assert first.messages == (Message("user", "hi"),)
        assert (first.sampling.max_tokens, first.raw) == (5, False)
        assert (second.prompt, second.raw) == ("p", True)


def test_the_endpoint_is_one_for_all_rows(tmp_path: Path) -> None:
    """A row that asks for a chat among completions is a fault, unless an option decides for all."""
    plain = line(custom_id="b", url="/v1/completions", body={"prompt": "p"})
    source = str(write(tmp_path, jsonl(plain, {"prompt": "q"})))

    with pytest.raises(InputFaults, match="line 2: the rows before ask for completions, this one for chats; split"):
        scanned(Spec(source=source), tmp_path)
    for endpoint, is_raw in (("chat", False), ("completions", True)):
        assert [each.raw for each in requests(Spec(source=source, endpoint=endpoint), tmp_path)] == [is_raw] * 2


def test_a_completion_has_no_messages(tmp_path: Path) -> None:
    """Messages, or a system message, don't go with prompts that reach the model as they stand."""
    messages = str(write(tmp_path, jsonl({"messages": [{"role": "user", "content": "hi"}]})))
    plain = str(write(tmp_path, jsonl(line(url="/v1/completions", body={"prompt": "p"})), "plain.jsonl"))

    with pytest.raises(InputFaults, match="messages need a chat"):
        scanned(Spec(source=messages, endpoint="completions"), tmp_path)
    with pytest.raises(InputFaults, match="a completion, which has no system message"):
        scanned(Spec(source=plain, system="Be brief."), tmp_path)
    with pytest.raises(UsageError, match="a system message needs a chat"):
        scanned(Spec(source=messages, endpoint="completions", system="Be brief."), tmp_path)


def test_models_that_rows_ask_for_are_listed(tmp_path: Path) -> None:
    """The scan says which models the rows name, so that a run can object."""
    rows = jsonl(line(), line(custom_id="b", body={**CHAT, "model": "other"}))
    _, source = scanned(Spec(source=str(write(tmp_path, rows))), tmp_path)

    assert source.models == ("m", "other")


BAD_ROWS = [
    ('{"prompt": "a"', "broken JSON at column 15"),
    ('{"prompt": "a",}', "broken JSON at column 16"),
    ('{"prompt": a}', "broken JSON at column 12: expecting value, found 'a}'"),
    ('{"prompt": "a"} {"prompt": "b"}', "more text after the object"),
    ('["a"]', "the line holds a JSON list"),
    ('"a"', "the line holds the JSON value 'a'"),
    ('{"prompt": "a", "x": NaN}', "NaN is not a JSON number"),
    ('{"prompt": "a", "x": -Infinity}', "-Infinity is not a JSON number"),
    ('{"prompt": "a", "x": 1e999}', "number '1e999' is too large"),
    ('{"prompt": "a", "x": ' + "9" * 5000 + "}", "a number has 5000 digits"),
    ('{"prompt": "a", "prompt": "b"}', "key 'prompt' occurs twice"),
    ('{"prompt": "a", "x": {"y": 1, "y": 1}}', "key 'y' occurs twice"),
    ('{"prompt": "a", "x": ' + "[" * 64 + "]" * 64 + "}", "nested more than 64 deep"),
    ('{"prompt": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested more than 64 deep"),
    ('{"prompt": "a \\ud83d b"}', "U+D83D, a lone surrogate"),
    ('{"prompt": "a", "\\udc00": 1}', "U+DC00, a lone surrogate"),
    ('{"prompt": "a\\u0000"}', "the prompt holds a NUL"),
    ('{"prompt": "a\tb"}', "broken JSON at column 14: invalid control character"),
    ('{"prompt": ""}', "the prompt is empty"),
    ('{"prompt": " \\n"}', "the prompt is empty"),
    ('{"prompt": 5}', "prompt must be a string, not 5"),
    ("{}", "prompt is missing; the row has no fields"),
    ('{"text": "a"}', "prompt is missing; the row has 'text'"),
    ('{"prompt": "a", "messages": []}', "both prompt and messages"),
    ('{"messages": []}', "messages is empty"),
    ('{"messages": "a"}', "messages must be a list"),
    ('{"messages": ["a"]}', "message 1 must be an object"),
    ('{"messages": [{"content": "a"}]}', "message 1: role is missing"),
    ('{"messages": [{"role": "tool", "content": "a"}]}', "message 1: role 'tool' is not supported"),
    ('{"messages": [{"role": "user", "content": null}]}', "message 1: content must be a string, not None"),
    ('{"messages": [{"role": "user", "content": ""}]}', "message 1 is empty"),
    ('{"messages": [{"role": "user", "content": "a\\u0000"}]}', "a message holds a NUL"),
    ('{"messages": [{"role": "user", "content": "a", "name": "b"}]}', "message 1: 'name' is not supported yet"),
    ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "content part 'image_url' is not supp"),
    ('{"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}', "content part 'input_audio' is not"),
    ('{"messages": [{"role": "user", "content": []}]}', "content has 0 text parts"),
    ('{"prompt": "a", "temperature": -0.1}', "temperature -0.1 is out of range"),
    ('{"prompt": "a", "temperature": "hot"}', "temperature must be a number, not 'hot'"),
    ('{"prompt": "a", "temperature": true}', "temperature must be a number, not True"),
    ('{"prompt": "a", "top_p": 0}', "top_p 0 is out of range"),
    ('{"prompt": "a", "top_p": 1.5}', "top_p 1.5 is out of range"),
    ('{"prompt": "a", "top_k": -1}', "top_k -1 is out of range; use 0 (off)"),
    ('{"prompt": "a", "max_tokens": 0}', "max_tokens 0 is out of range"),
    ('{"prompt": "a", "max_tokens": 1.5}', "max_tokens must be a whole number, not 1.5"),
    ('{"prompt": "a", "max_tokens": 1' + "0" * 90 + "}", "max_tokens 1000"),
    ('{"prompt": "a", "max_tokens": 1, "max_completion_tokens": 2}', "max_tokens and max_completion_tokens disagree"),
    ('{"prompt": "a", "seed": -1}', "seed -1 is out of range"),
    ('{"prompt": "a", "seed": 9223372036854775808}', "seed 9223372036854775808 is out of range"),
    ('{"prompt": "a", "max_tokens": 2147483648}', "max_tokens 2147483648 is out of range"),
    ('{"prompt": "a", "stop": 5}', "stop must be a string or a list of strings"),
    ('{"prompt": "a", "stop": [""]}', "stop holds an empty string"),
    ('{"prompt": "a", "model": 5}', "model must be a string"),
    ('{"custom_id": 5, "prompt": "a"}', "custom_id must be a string, not 5; put it in double quotes"),
    ('{"custom_id": "", "prompt": "a"}', "custom_id is empty"),
    ('{"custom_id": "a\\nb", "prompt": "a"}', "holds a control character"),
    ('{"custom_id": "' + "x" * 513 + '", "prompt": "a"}', "custom_id has 513 characters"),
    ('{"prompt": "a", "max_token": 5}', "field 'max_token' is not known; did you mean max_tokens?"),
    ('{"prompt": "a", "Temperature": 5}', "did you mean temperature?"),
    ('{"prompt": "a", "tools": [{"x": 1}]}', "tools [{'x': 1}] is not supported yet"),
    ('{"prompt": "a", "functions": [1]}', "functions [1] is not supported yet"),
    ('{"prompt": "a", "n": 2}', "n 2 is not supported yet"),
    ('{"prompt": "a", "logprobs": true}', "logprobs True is not supported yet"),
    ('{"prompt": "a", "response_format": {"type": "json_object"}}', "response_format {'type': 'json_object'} is not"),
    (json.dumps(line(url="/v1/embeddings")), "url '/v1/embeddings' is not supported; use /v1/chat/completions"),
    (json.dumps(line(url="/v1/responses")), "url '/v1/responses' is not supported"),
    (json.dumps(line(method="GET")), "method must be \"POST\", not 'GET'"),
    (json.dumps(line(body=5)), "body must be an object"),
    (json.dumps(line(custom_id=None)), "custom_id is missing; every batch line needs one"),
    (json.dumps(line(extra=1)), "field 'extra' is not part of a batch line"),
    (json.dumps(line(body={**CHAT, "tools": [1]})), "tools [1] is not supported yet; remove it"),
    (json.dumps(line(body={**CHAT, "max_token": 1})), "body: field 'max_token' is not known; did you mean max_tokens?"),
    (json.dumps(line(body={**CHAT, "zzz": 1})), "body: field 'zzz' is not known; remove it"),
    (json.dumps(line(body={"model": "m"})), "body: messages is missing"),
    (json.dumps(line(body={**CHAT, "prompt": "a"})), "body: prompt does not go with url"),
    (json.dumps(line(url="/v1/completions", body={"prompt": ["a", "b"]})), "body: prompt is a list"),
]


@pytest.mark.parametrize(("row", "text"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_each_fault_names_line_cause_and_remedy(tmp_path: Path, row: str, text: str) -> None:
    """A bad row is refused in one line of bounded length that says where and why."""
    found = fault('{"prompt": "fine"}\n' + row + "\n", tmp_path)

    assert found.startswith("line 2: ")
    assert text in found
    assert "\n" not in found
    assert len(found) < 300


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    """Every bad row of a file is in the one error, in order."""
    content = "".join(row + "\n" for row, _ in BAD_ROWS)
    found = faults(content, tmp_path)

    assert [text.split(":")[0] for text in found] == [f"line {number}" for number in range(1, len(BAD_ROWS) + 1)]


def test_fault_texts_are_capped_but_counted(tmp_path: Path) -> None:
    """A file that is wrong throughout keeps a bounded number of texts and the true count."""
    path = write(tmp_path, "{}\n" * (KEPT + 500))
    with pytest.raises(InputFaults, match=f"{KEPT + 500} faults, nothing was sent") as caught:
        scanned(Spec(source=str(path)), tmp_path)
    assert len(caught.value.faults) == KEPT


def test_openai_format_takes_no_other_line(tmp_path: Path) -> None:
    """With the format given, a plain row is a fault."""
    assert "not part of a batch line" in fault(jsonl({"prompt": "a"}), tmp_path, format="openai")


def test_nothing_is_yielded_after_the_first_fault(tmp_path: Path) -> None:
    """A consumer that refuses bad rows gets no row behind one."""
    from tokenmill.workload import scan

    path = write(tmp_path, jsonl({"prompt": "a"}, {}, {"prompt": "b"}))
    seen = []
    with pytest.raises(InputFaults):
        for entry in scan(Spec(source=str(path)), tmp_path):
            seen.append(entry.row)
    assert seen == [0]


def test_bad_rows_can_fail_alone(tmp_path: Path) -> None:
    """With bad_rows="fail" every row has an entry with an id of its own; bad ones carry their fault."""
    rows = '{"prompt": "a"}\n{"custom_id": "x", "prompt": 5}\n{\n{"custom_id": "x", "prompt": "b"}\n'
    rows += '{"custom_id": "row-3", "prompt": "c"}\n{"prompt": "d"}\n'
    spec = Spec(source=str(write(tmp_path, rows)), bad_rows="fail")
    entries, source = scanned(spec, tmp_path)

    assert source.rows == 6
    assert [entry.custom_id for entry in entries] == ["row-1", "x", "row-3", "row-4", "row-5", "row-6"]
    assert [entry.fault is None for entry in entries] == [True, False, False, False, False, True]
    assert "custom_id 'x' is already used on line 2" in str(entries[3].fault)
    with Reader(spec, source) as reader:
        assert reader.fields(entries[2].offset, entries[2].length, 3) == {}
        assert reader.fields(entries[1].offset, entries[1].length, 2) == {"custom_id": "x", "prompt": 5}
