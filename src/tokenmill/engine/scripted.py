"""An engine that answers by script: the test double for everything, and a way to try tokenmill without a model.

The script is a TOML file; without one every prompt is echoed at once. Delays are real seconds. A rule applies to
prompts its `match` (a regular expression) is found in, the first that fits; `times` limits a failure to the first
attempts of a row, so a retry can succeed.

    slots = 4
    answer = "You said: {prompt}"     # or answers = ["...", "..."], chosen by seed and row
    load = 0.2                        # seconds to open
    first_token = 0.01                # seconds before the first token
    per_token = 0.001                 # seconds per further token
    serial = false                    # true: requests wait for each other, as behind one lock
    capacity = 2                      # requests it really runs; more wait inside, in the order in which they came
    [[rule]]
    match = "poison"
    crash = true                      # this engine dies: all its requests fail, it must be opened again
    [[rule]]
    match = "flaky"
    fail = "transient"
    message = "upstream said 503"
    times = 1
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.errors import EngineError, UsageError
from tokenmill.event import FAILURE_KINDS
from tokenmill.request import Chunk, Completion, Request, Usage


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to prompts that `match`; a field left out follows the script."""

    match: str
    answer: str | None = None
    tokens: int | None = None
    first_token: float | None = None
    per_token: float | None = None
    fail: str | None = None
    message: str = "scripted failure"
    times: int | None = None
    crash: bool = False
    finish_reason: str = "stop"


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole behaviour of the engine; `tokens` None counts the words of the answer."""

    slots: int = 8
    look_ahead: int = 0
    context: int | None = None
    seed: int = 0
    answer: str = "{prompt}"
    answers: tuple[str, ...] = ()
    tokens: int | None = None
    load: float = 0.0
    first_token: float = 0.0
    per_token: float = 0.0
    jitter: float = 0.0
    serial: bool = False
    capacity: int | None = None
    reports_width: bool = True
    rule: tuple[Rule, ...] = ()


def read_script(path: Path) -> Script:
    """Reads and checks a script file."""
    try:
        script = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Script)
        for rule in script.rule:
            re.compile(rule.match)
    except OSError as error:
        raise UsageError(f"script {path}: {error.strerror}; give a TOML file, or 'scripted:' for an echo") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, re.error) as error:
        raise UsageError(f"script {path}: {error}; the fields are listed in the documentation of engines") from error
    unknown = [rule.fail for rule in script.rule if rule.fail is not None and rule.fail not in FAILURE_KINDS]
    if unknown:
        raise UsageError(f"script {path}: failure class {unknown[0]!r} is not known; known: {', '.join(FAILURE_KINDS)}")
    for name, number in (("slots", script.slots), ("capacity", script.capacity)):
        if number is not None and number < 1:
            raise UsageError(f"script {path}: {name} is {number}; give at least 1")
    return script


class ScriptedEngine:
    """Answers by a `Script`; two engines with the same script and seed give the same answers."""

    def __init__(self, node: Node, options: EngineOptions) -> None:
        script = read_script(Path(node.target)) if node.target else Script()
        if options.slots is not None:
            script = msgspec.structs.replace(script, slots=options.slots)
        self._script = script
        self._rules = [(re.compile(rule.match), rule) for rule in script.rule]
        self._tries: dict[int, int] = {}
        self._running = 0
        self._dead = asyncio.Event()
        capacity = 1 if script.serial else script.capacity
        self._places = contextlib.nullcontext() if capacity is None else asyncio.Semaphore(capacity)

    def survey(self) -> EngineFacts:
        script = self._script
        said = [script.seed, script.answer, script.answers, script.tokens, script.rule]  # timing shapes no answer
        digest = hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]
        return EngineFacts(
            model="scripted",
            digest=digest,
            slots=script.slots,
            look_ahead=script.look_ahead,
            context=script.context,
            device="script",
        )

    def count(self, request: Request) -> int:
        return len(prompt_text(request).split())

    async def open(self) -> EngineFacts:
        if self._script.load:
            await asyncio.sleep(self._script.load)
        self._dead = asyncio.Event()
        return self.survey()

    async def close(self) -> None:
        self._dead.set()

    async def probe(self) -> None:
        await self._wait(self._script.first_token, None)

    async def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]:
        prompt = prompt_text(request)
        rule = next((rule for pattern, rule in self._rules if pattern.search(prompt)), None)
        async with self._places:
            self._running += 1
            try:
                async for part in self._answer(request, prompt, rule):
                    yield part
            finally:
                self._running -= 1

    async def _answer(self, request: Request, prompt: str, rule: Rule | None) -> AsyncIterator[Chunk | Completion]:
        script = self._script
        pace = random.Random(f"{script.seed}:{request.row}") if script.jitter else None
        first = script.first_token if rule is None or rule.first_token is None else rule.first_token
        each = script.per_token if rule is None or rule.per_token is None else rule.per_token
        await self._wait(first, pace)
        if rule is not None:
            self._misbehave(request, rule)
        text = self._text(request, prompt, rule)
        tokens = (rule.tokens if rule is not None else None) or script.tokens or max(1, len(text.split()))
        reason = "stop" if rule is None else rule.finish_reason
        limit = request.sampling.max_tokens
        if limit is not None and limit < tokens:
            tokens, text, reason = limit, " ".join(text.split()[:limit]), "length"
        for piece, weight in _pieces(text, tokens, timed=each > 0):
            yield Chunk(piece, weight, self._width())
            await self._wait(each * weight, pace)
        yield Completion(reason, Usage(len(prompt.split()), tokens))

    def _misbehave(self, request: Request, rule: Rule) -> None:
        if rule.crash:
            self._dead.set()
            raise EngineError("crash", "the engine died")
        if rule.fail is not None:
            tried = self._tries[request.row] = self._tries.get(request.row, 0) + 1
            if rule.times is None or tried <= rule.times:
                raise EngineError(rule.fail, rule.message)

    def _text(self, request: Request, prompt: str, rule: Rule | None) -> str:
        if rule is not None and rule.answer is not None:
            return rule.answer.replace("{prompt}", prompt)
        if self._script.answers:
            seed = f"{self._script.seed}:{request.custom_id}".encode()
            pick = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
            return self._script.answers[pick % len(self._script.answers)].replace("{prompt}", prompt)
        return self._script.answer.replace("{prompt}", prompt)

    def _width(self) -> int:
        return self._running if self._script.reports_width else 0

    async def _wait(self, seconds: float, pace: random.Random | None) -> None:
        """Waits, unless the engine dies first; then the request fails with it."""
        if pace is not None:
            seconds *= 1 + pace.uniform(-self._script.jitter, self._script.jitter)
        if seconds > 0:
            waiting = asyncio.ensure_future(self._dead.wait())
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            waiting.cancel()
            if done:
                raise EngineError("crash", "the engine died")
        elif self._dead.is_set():
            raise EngineError("crash", "the engine died")


def prompt_text(request: Request) -> str:
    """What the script sees: the prompt, or the contents of the messages, one a line."""
    if request.prompt is not None:
        return request.prompt
    return "\n".join(message.content for message in request.messages)


def _pieces(text: str, tokens: int, *, timed: bool) -> list[tuple[str, int]]:
    """The text in as many pieces as tokens where time passes between them, else in one."""
    if not timed or tokens < 2:
        return [(text, tokens)]
    bounds = [len(text) * index // tokens for index in range(tokens + 1)]
    return [(text[start:end], 1) for start, end in itertools.pairwise(bounds)]
