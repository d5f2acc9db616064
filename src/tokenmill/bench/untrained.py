"""A model with random weights, shaped as a GPT-2 or a Llama: what it writes means nothing, its times are real.

Time depends on shapes alone, so a benchmark needs no download, and the real vocabulary is part of the shape. The
tokenizer is made for the words it is given: each is one token, as it would be with a trained one; other text is bytes.
No token ends an answer, so lengths are those that were asked for.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.errors import StorageError, UsageError

SEED = 20


class Shape(Struct, frozen=True, kw_only=True):
    """Sizes of a GPT-2, or of a Llama if it has heads of keys and values of its own.

    `kv_heads`, `intermediate`: 0 for a GPT-2, where they follow from the others.
    """

    layers: int
    heads: int
    hidden: int
    vocab: int
    context: int
    kv_heads: int = 0
    intermediate: int = 0

    @property
    def family(self) -> str:
        return "llama" if self.kv_heads else "gpt2"


SHAPES = {
    "124m": Shape(layers=12, heads=12, hidden=768, vocab=50257, context=1024),
    "small": Shape(layers=6, heads=8, hidden=512, vocab=8192, context=512),
    "pair": Shape(layers=4, heads=8, hidden=512, vocab=8192, context=1024),
    "tiny": Shape(layers=2, heads=2, hidden=32, vocab=1024, context=512),
    "llama-1b": Shape(
        layers=16, heads=32, kv_heads=8, hidden=2048, intermediate=8192, vocab=128256, context=4096
    ),  # Llama 3.2 1B, but for its longer context
    "llama-tiny": Shape(layers=2, heads=4, kv_heads=2, hidden=64, intermediate=128, vocab=1024, context=512),
}


def make_model(folder: Path, shape: Shape, words: Iterable[str]) -> None:
    """Writes the model's folder, whole or not at all; one that is there is left as it is.

    Raises:
        UsageError: what is needed isn't installed.
        StorageError: it can't be written.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            _write_config(draft, shape)
            _write_tokenizer(draft, shape, words)
            _write_weights(draft)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except ModuleNotFoundError as error:
        raise UsageError(f"a random model needs {error.name}: pip install 'tokenmill[local]'") from error
    except OSError as error:
        if not folder.is_dir():  # another process may have been quicker
            raise StorageError(f"{folder}: can't be written ({error.strerror}); use another --bench-dir") from error


def _write_config(folder: Path, shape: Shape) -> None:
    config: dict[str, object] = {"vocab_size": shape.vocab, "bos_token_id": None, "eos_token_id": None}
    config |= {"model_type": shape.family, "dtype": "float16"}
    if shape.family == "gpt2":
        config |= {
            "architectures": ["GPT2LMHeadModel"],
            "n_layer": shape.layers,
            "n_head": shape.heads,
            "n_embd": shape.hidden,
            "n_positions": shape.context,
        }
    else:
        config |= {
            "architectures": ["LlamaForCausalLM"],
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": shape.context,
            "tie_word_embeddings": True,
        }
    (folder / "config.json").write_bytes(msgspec.json.encode(config))


def _write_tokenizer(folder: Path, shape: Shape, words: Iterable[str]) -> None:
    """Byte-level, with merges that build each word from its first sign on: no two of them ever compete.

    The rest of the vocabulary are numbered words that no prompt has, so that different answers are different texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    space = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"  # how a byte-level vocabulary writes a space
    merges = []
    for word in sorted(set(words)):
        for end in range(len(word)):
            start = space + word[:end]
            if start + word[end] not in vocabulary:
                merges.append((start, word[end]))
                vocabulary[start + word[end]] = len(vocabulary)
    assert len(vocabulary) <= shape.vocab, "the prompts have more words than the vocabulary has room for"
    vocabulary |= {f"{space}w{number}": number for number in range(len(vocabulary), shape.vocab)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_weights(folder: Path) -> None:
    """Spread as GPT-2's are before training, in half precision, which every type of the engine holds or rounds.

    A Llama's names carry the prefix of its base model, without which transformers doesn't find them.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from tokenmill.model.config import read_config
    from tokenmill.model.shards import SINGLE
    from tokenmill.model.tensors import expected_tensors

    source = np.random.default_rng(SEED)
    config, tensors = read_config(folder), {}
    prefix = "model." if config.family == "llama" else ""
    for plain, size in expected_tensors(config).items():
        name = prefix + plain
        if len(size) == 1:  # norms and biases
            is_gain = ("ln_" in name or "norm" in name) and name.endswith(".weight")
            tensors[name] = np.full(size, 1.0 if is_gain else 0.0, dtype=np.float16)
        else:
            tensors[name] = (source.standard_normal(size, dtype=np.float32) * np.float32(0.02)).astype(np.float16)
    save_file(tensors, folder / SINGLE)
