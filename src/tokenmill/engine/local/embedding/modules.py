"""How the words of a text become one vector, as sentence-transformers writes it beside a model.

`modules.json` lists the steps: an encoder, a pooling, and perhaps a normalisation. Each has a small configuration.
Models differ in these and in nothing that shows: a mean taken for a first word gives vectors that look right. So every
key is known or refused, and a folder without these files is refused as well.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from tokenmill.errors import InputFaults
from tokenmill.model.fields import Fields
from tokenmill.model.files import BadModel, find_file, home_of, read_bytes, read_object

MODULES, LIMITS, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
#: Bytes of any of these files.
SMALL = 1 << 20
KNOWN = "Transformer, Pooling and Normalize, in this order"
#: How versions before 6 name what is pooled.
SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
SIZES = ("embedding_dimension", "word_embedding_dimension")
#: What `sentence_bert_config.json` may say besides, and the only values that leave a text encoder as it is.
PLAIN: dict[str, tuple[object, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": (None, {}),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "unpad_inputs": (None, True, False),
}


class Module(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of `modules.json`: its class, and the folder of its configuration within the model's."""

    idx: int
    type: str
    name: str = ""
    path: str = ""


class Recipe(Struct, frozen=True, kw_only=True):
    """From words to one vector.

    `longest`: tokens of a text with the special ones, None where the folder doesn't say. `lower`: texts are written
    small first. `files` are those that say it all, by name.
    """

    pooling: Literal["mean", "cls"]
    normalize: bool
    longest: int | None
    lower: bool
    files: tuple[tuple[str, Path], ...]


def read_recipe(folder: Path, hidden: int) -> Recipe:
    """What the files in `folder` say for an encoder of `hidden` numbers a word."""
    path = find_file(folder, MODULES)
    if path is None:
        raise BadModel(
            f"{folder} has no {MODULES}, so it doesn't say how words become one vector; save the model with "
            "sentence-transformers (SentenceTransformer(...).save)"
        )
    parts = _read_modules(path)
    files: list[tuple[str, Path]] = [(MODULES, path)]
    pooling_file = _find_within(folder, parts[1].path, "config.json")
    files.append((f"{parts[1].path}/config.json", pooling_file))
    pooling = _read_pooling(pooling_file, hidden)
    longest, lower = None, False
    if (limits := find_file(folder, LIMITS)) is not None:
        files.append((LIMITS, limits))
        longest, lower = _read_limits(limits)
    if (prompts := find_file(folder, PROMPTS)) is not None:
        _check_prompts(prompts)
    return Recipe(pooling=pooling, normalize=len(parts) == 3, longest=longest, lower=lower, files=tuple(files))


def _read_modules(path: Path) -> list[Module]:
    try:
        parts = msgspec.json.decode(read_bytes(path, SMALL), type=list[Module])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadModel(f"{path}: this isn't a list of modules as it is known here ({error})") from error
    kinds = [part.type.rpartition(".")[2] for part in parts]
    foreign = [part.type for part in parts if not part.type.startswith("sentence_transformers.")]
    if foreign:
        raise BadModel(f"{path}: {foreign[0]!r} is code that came with the model, which is never run; known: {KNOWN}")
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise BadModel(f"{path}: the steps {', '.join(kinds) or 'none'} aren't supported; known: {KNOWN}")
    if parts[0].path not in ("", "."):
        raise BadModel(f"{path}: the encoder is in {parts[0].path!r}; save the model again, which puts it at the top")
    return parts


def _find_within(folder: Path, part: str, name: str) -> Path:
    """The file `name` in the folder `part` of a model, with the distrust of `find_file`."""
    if not part or part in (".", "..") or any(sign in part for sign in "/\\\0"):
        raise BadModel(
            f"{folder}: {part!r} in {MODULES} isn't a plain name; take the folder only from a source you trust"
        )
    path = folder / part / name
    try:
        mode = path.stat().st_mode
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise BadModel(f"{path}, named by {MODULES}, isn't there; download the whole model") from None
    except (OSError, RuntimeError) as error:
        raise BadModel(f"{path}: can't be opened ({error})") from error
    if not stat.S_ISREG(mode):
        raise BadModel(f"{path} isn't a regular file; replace it by the file of the model")
    if not real.is_relative_to(home_of(folder)):
        raise BadModel(f"{path} links outside its folder, to {real}; replace the link by the file")
    return path


def _read_pooling(path: Path, hidden: int) -> Literal["mean", "cls"]:
    """What is pooled, by the one key of version 6 or the switches of those before."""
    said = read_object(path, SMALL)
    fields = Fields(said)
    _refuse_unknown(fields, {"pooling_mode", "include_prompt", *SIZES, *SWITCHES})
    fields.must_be("include_prompt", True, default=True)
    size = fields.size(SIZES, 1 << 17)
    if not fields.faults and size != hidden:
        fields.fault(f"{next(key for key in SIZES if fields.has(key))} {size} isn't the encoder's {hidden}")
    on = [mode for key, mode in SWITCHES.items() if fields.flag(key, False)]
    stated = said.get("pooling_mode", on)
    modes = [stated] if isinstance(stated, str) else stated
    if modes not in (["mean"], ["cls"]):
        fields.fault(f"the pooling {stated!r} isn't supported; known: mean, cls")
    if fields.faults:
        raise InputFaults(str(path), fields.faults)
    return "mean" if modes == ["mean"] else "cls"


def _read_limits(path: Path) -> tuple[int | None, bool]:
    """The longest text, and whether texts are written small."""
    fields = Fields(read_object(path, SMALL))
    _refuse_unknown(fields, {"max_seq_length", "do_lower_case", *PLAIN})
    for key, values in PLAIN.items():
        if fields.has(key) and not any(fields.values[key] == value for value in values):
            fields.fault(f"{key} {fields.values[key]!r} isn't supported; leave it out if it isn't needed")
    is_stated = fields.values.get("max_seq_length") is not None
    longest = fields.size(("max_seq_length",), 1 << 20, least=3) if is_stated else None
    lower = fields.flag("do_lower_case", False)
    if fields.faults:
        raise InputFaults(str(path), fields.faults)
    return longest, lower


def _check_prompts(path: Path) -> None:
    """A text that is put before every other one changes every vector; texts with names are only for who asks."""
    fields = Fields(read_object(path, SMALL))
    name = fields.values.get("default_prompt_name")
    if name is not None:
        raise BadModel(
            f"{path}: default_prompt_name {name!r}: a text put before every other one isn't supported; "
            "set it to null and give such texts yourself"
        )


def _refuse_unknown(fields: Fields, known: set[str]) -> None:
    for key in fields.values:
        if key not in known:
            fields.fault(f"{key[:80]} isn't known here, so it may change the vectors")
