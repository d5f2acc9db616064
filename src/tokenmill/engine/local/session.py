"""The requests inside one worker: from a submitted request to the pieces of its answer, step by step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import msgspec
import torch

from tokenmill.engine.local.agreement import agree
from tokenmill.engine.local.autotp import check_divisible, check_installed
from tokenmill.engine.local.core import DTYPES, Core, Step
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.group import Group
from tokenmill.engine.local.sharding import check_size
from tokenmill.engine.local.stream import AnswerStream
from tokenmill.engine.local.weights import load_weights
from tokenmill.engine.local.wire import DEEPSPEED, Load, Refused, Stepped, Submit
from tokenmill.errors import EngineError, TokenmillError, UsageError
from tokenmill.request import Request, Sampling

#: Test hook: the worker aborts at the first token of a prompt that contains this variable's text, as a fault in
#: native code would end it. It is how "one poison row costs one row" is tested with a real process.
ABORT_VARIABLE = "TOKENMILL_TEST_ABORT_ON"


class Answering(Protocol):
    """What a session needs of whatever makes the tokens, as `Core` does."""

    @property
    def has_work(self) -> bool: ...

    def submit(self, key: int, prompt: list[int], sampling: Sampling, seed: int) -> None: ...

    def cancel(self, key: int) -> None: ...

    def step(self) -> Step: ...


class Session:
    """A core and the text of its answers. One step of the core becomes one message."""

    def __init__(self, folder: ModelFolder, core: Answering, abort_on: str = "") -> None:
        self._folder = folder
        self._core = core
        self._streams: dict[int, AnswerStream] = {}
        self._abort_on = abort_on
        self._poisoned: set[int] = set()

    @property
    def has_work(self) -> bool:
        return self._core.has_work

    def submit(self, message: Submit) -> Refused | None:
        """Queues a request, or says why it can't be answered."""
        key, request = message.key, message.request
        try:
            if not all(request.sampling.stop):
                raise EngineError("refused", "an empty stop string would end every answer before it begins")
            prompt = self._folder.encode_request(request)
            self._core.submit(key, prompt, request.sampling, message.seed)
        except EngineError as error:
            return Refused(key, error.kind, error.message)
        except TokenmillError as error:
            return Refused(key, "refused", str(error))
        self._streams[key] = AnswerStream(key, self._folder.decoder(), request.sampling.stop, len(prompt))
        if self._abort_on and self._abort_on in _all_text(request):
            self._poisoned.add(key)
        return None

    def cancel(self, key: int) -> None:
        """Forgets a request; its slot is free in the next step."""
        if self._streams.pop(key, None) is not None:
            self._core.cancel(key)
        self._poisoned.discard(key)

    def step(self) -> Stepped:
        """One forward pass and what it added to each answer."""
        step = self._core.step()
        pieces = []
        for output in step.outputs:
            if output.key in self._poisoned:
                os.abort()
            piece = self._streams[output.key].add(output.token, output.finish)
            if piece.finish:
                self.cancel(output.key)
            pieces.append(piece)
        return Stepped(step.width, tuple(pieces))


def load_session(load: Load, group: Group | None = None) -> Session:
    """Loads the model, in a group on all of its ranks; refuses one that isn't the one the caller looked at."""
    if load.tp != (group.size if group else 1):
        raise UsageError(
            f"tp {load.tp} was asked of a worker with {group.size if group else 1} ranks; "
            "start the workers and the run with the same --tp"
        )
    if group is None:
        return _open_session(load, check_load(load), None)
    group.tell(msgspec.msgpack.encode(load))
    folder = agree(group, lambda: check_load(load))
    if load.tp_engine == DEEPSPEED:
        from tokenmill.engine.local.deepspeed import PaddedCore

        group.connect_torch(load.device)
        return agree(group, lambda: _talk(folder, PaddedCore(folder, load, group)))
    group.connect(load.device)
    return agree(group, lambda: _open_session(load, folder, group))


def check_load(load: Load) -> ModelFolder:
    """The model, if it is the one that was looked at and what is asked can be done here."""
    folder = ModelFolder(Path(load.folder))
    if folder.digest != load.digest:
        raise UsageError(f"{load.folder} has changed since it was looked at; start again to use what is there now")
    if not is_available(load.device):
        raise UsageError(f"device {load.device!r} isn't there, or this build of torch can't use it; use --device cpu")
    check_size(folder.config, load.tp)
    if load.tp_engine == DEEPSPEED:
        check_divisible(folder.path, load.tp)
        check_installed()
    return folder


def _open_session(load: Load, folder: ModelFolder, group: Group | None) -> Session:
    _ = folder.tokenizer, folder.template  # what can't be read must fail here, before the weights are loaded
    core = Core(
        folder.config,
        load_weights(folder.index, DTYPES[load.dtype], load.device),
        slots=load.slots,
        kv_memory=load.kv_memory,
        dtype=load.dtype,
        device=load.device,
        threads=load.threads,
        context=load.context,
        group=group,
    )
    return _talk(folder, core)


def _talk(folder: ModelFolder, core: Answering) -> Session:
    _ = folder.tokenizer, folder.template  # what can't be read must fail here, not with the first request
    return Session(folder, core, os.environ.get(ABORT_VARIABLE, ""))


def is_available(device: str) -> bool:
    """Whether torch can compute there."""
    if device == "cpu":
        return True
    found = torch.accelerator.current_accelerator(check_available=True)
    return found is not None and found.type == device


def _all_text(request: Request) -> str:
    return "\n".join([request.prompt or "", *(message.content for message in request.messages)])
