"""The ranks of a group that don't lead: they compute what they are told and hold nothing that could disagree."""

from __future__ import annotations

from typing import NoReturn

import msgspec
import torch

from tokenmill.engine.local.agreement import agree
from tokenmill.engine.local.core import DTYPES, make_runner
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.group import Group
from tokenmill.engine.local.memory import plan_memory
from tokenmill.engine.local.order import unpack
from tokenmill.engine.local.runner import Runner
from tokenmill.engine.local.session import check_load
from tokenmill.engine.local.weights import load_weights
from tokenmill.engine.local.wire import DEEPSPEED, Load


def obey(group: Group) -> NoReturn:
    """Does what the lead says until the lead is gone, which ends this process."""
    [body] = group.hear()
    load = msgspec.msgpack.decode(body, type=Load)
    folder = agree(group, lambda: check_load(load))
    if load.tp_engine == DEEPSPEED:
        from tokenmill.engine.local.deepspeed import Divided, read_words

        group.connect_torch(load.device)
        divided = agree(group, lambda: Divided(folder, load))
        while True:
            [body] = group.hear()
            divided.obey(read_words(body))
    group.connect(load.device)
    runner = agree(group, lambda: load_share(load, folder, group))
    while True:
        [body] = group.hear()
        runner.obey(unpack(body), {})


def load_share(load: Load, folder: ModelFolder, group: Group) -> Runner:
    """This rank's share of the weights and of the KV memory."""
    torch.set_num_threads(load.threads)
    plan = plan_memory(folder.config, load.dtype, load.slots, load.context, load.kv_memory, load.tp)
    weights = load_weights(folder.index, DTYPES[load.dtype], load.device)
    return make_runner(folder.config, weights, plan, load.dtype, load.device, group)
