"""Two real rank processes give the tokens that one process gives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner

from engine.local.ranks import Asked, Report, Story, answer, play
from engine.local.reference_models import LLAMA, MODELS, VOCAB, make_reference, ragged_requests
from tokenmill.cli import command
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.memory import plan_memory
from tokenmill.engine.local.wire import Load
from tokenmill.request import Request, Sampling

SLOTS = 4
#: Requests that are cancelled, and after how many passes.
CANCELLED = {3: 2, 5: 9, 8: 0}
KINDS = (
    Sampling(max_tokens=20, temperature=0.9),
    Sampling(max_tokens=30, temperature=0.7, top_k=20),
    Sampling(max_tokens=25, temperature=1.2, top_p=0.8),
    Sampling(max_tokens=20, temperature=1.0, top_k=40, top_p=0.9),
)


def save_tokenizer(folder: Path) -> None:
    """One token for each byte; the model's further tokens have no text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def save(name: str, folder: Path) -> Path:
    make_reference(name, "fp32").save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def make_load(path: Path, *, dtype: str = "fp32", tp: int = 1, slots: int = SLOTS, tokens: int = 400) -> Load:
    """Fewer places than the slots could fill, so that some are preempted and computed again."""
    folder = ModelFolder(path)
    token = plan_memory(folder.config, dtype, slots, None, 1 << 40, tp).kv_token_bytes
    return Load(
        folder=str(path),
        digest=folder.digest,
        dtype=dtype,
        device="cpu",
        threads=1,
        slots=slots,
        context=min(folder.config.context, tokens),
        kv_memory=tokens * token,
        tp=tp,
    )


def make_story(load: Load, folder: Path) -> Story:
    """Ragged prompts in tokens, greedy and drawn, some of them cancelled; then texts with and without stop strings."""
    ragged = ragged_requests(12, seed=11)
    asked = [
        Asked(prompt=prompt, sampling=Sampling(max_tokens=limit), cancelled=CANCELLED.get(number, -1))
        for number, (prompt, limit) in enumerate(ragged)
    ]
    asked += [Asked(prompt=[7, number], sampling=kind, seed=number) for number, kind in enumerate(KINDS)]
    texts = [
        Request(row=number, custom_id=str(number), prompt=prompt, sampling=Sampling(max_tokens=40, stop=stop))
        for number, (prompt, stop) in enumerate([("a tale", ()), ("of two", ("e", "th")), ("ranks", ("\ufffd",))])
    ]
    return Story(load=load, report=str(folder / "report.json"), asked=asked, texts=texts)


def one_and_two(path: Path, folder: Path, dtype: str = "fp32") -> tuple[Report, Report]:
    """The same story by one process, this one, and by two ranks."""
    torch.set_num_threads(1)
    one = answer(make_story(make_load(path, dtype=dtype), folder))
    two, written = play(make_story(make_load(path, dtype=dtype, tp=2), folder), folder, 2)
    assert two is not None, written
    return one, two


@pytest.mark.parametrize("name", MODELS)
def test_two_ranks_give_the_tokens_of_one(name: str, tmp_path: Path) -> None:
    """Every family: mixed lengths, preempted, cancelled, drawn with a seed, and texts that end at stop strings."""
    one, two = one_and_two(save(name, tmp_path / "model"), tmp_path)

    assert two.tokens == one.tokens
    assert two.widths == one.widths
    assert two.pieces == one.pieces
    assert two.kv_bytes * 2 == one.kv_bytes
    assert two.weight_bytes < one.weight_bytes


@pytest.mark.slow
def test_two_ranks_give_the_tokens_of_one_for_gpt2_124m(tmp_path: Path) -> None:
    """GPT-2's real shape, random weights, fp32: greedy answers of mixed lengths in shared passes."""
    import transformers

    torch.manual_seed(0)
    path = tmp_path / "model"
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).to(torch.bfloat16).save_pretrained(path)
    save_tokenizer(path)
    generator = torch.Generator().manual_seed(3)
    asked = [
        Asked(
            prompt=torch.randint(0, 50257, (3 + 17 * number % 40,), generator=generator).tolist(),
            sampling=Sampling(max_tokens=4 + 5 * number % 13),
        )
        for number in range(10)
    ]
    report = str(tmp_path / "report.json")

    one = answer(Story(load=make_load(path, tokens=300), report=report, asked=asked))
    two, written = play(Story(load=make_load(path, tp=2, tokens=300), report=report, asked=asked), tmp_path, 2)

    assert two is not None, written
    assert two.tokens == one.tokens
    assert [len(tokens) for tokens in two.tokens] == [each.sampling.max_tokens for each in asked]


@pytest.mark.parametrize("kind", ["q8_0", "w4a16-g32"])
def test_ranks_decode_quantized_models_and_share_them(kind: str, tmp_path: Path) -> None:
    """Quantized tensors are decoded and then cut: two ranks answer a GGUF file, or a packed folder, as one does."""
    path = quantized(save_even(tmp_path / "model"), tmp_path, kind)
    prompts = [("a", 12), ("the tale", 9), ("two ranks", 30)]
    texts = [
        Request(row=row, custom_id=str(row), prompt=prompt, sampling=Sampling(max_tokens=limit), raw=True)
        for row, (prompt, limit) in enumerate(prompts)
    ]
    report = str(tmp_path / "report.json")

    one = answer(Story(load=make_load(path), report=report, texts=texts))
    two, written = play(Story(load=make_load(path, tp=2), report=report, texts=texts), tmp_path, 2)

    assert two is not None, written
    assert two.pieces == one.pieces


def save_even(path: Path) -> Path:
    """A Llama whose rows are multiples of 32, as encodings want them."""
    import transformers

    torch.manual_seed(2)
    sizes = LLAMA | {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).save_pretrained(path)
    save_tokenizer(path)
    return path


def quantized(model: Path, folder: Path, kind: str) -> Path:
    """The model as `tokenmill quantize` writes it."""
    output = folder / ("quantized.gguf" if kind == "q8_0" else "quantized")
    done = CliRunner().invoke(command, ["quantize", str(model), str(output), "--to", kind])
    assert done.exit_code == 0, done.output
    return output


def test_a_rank_holds_what_the_plan_says(tmp_path: Path) -> None:
    """Half of the layers' matrices and of the head, and tables and norms whole."""
    config = ModelFolder(save("llama", tmp_path)).config
    whole = plan_memory(config, "fp32", 1, None, 1 << 30).weight_bytes
    table, norms = VOCAB * config.hidden, (2 * config.layers + 1) * config.hidden
    head = -(-VOCAB // 2) * config.hidden
    matrices = whole // 4 - 2 * table - norms

    half = plan_memory(config, "fp32", 1, None, 1 << 30, 2)

    assert half.weight_bytes == 4 * (matrices // 2 + head + table + norms)
    assert half.total_bytes == 2 * half.rank_bytes == 2 * (half.weight_bytes + half.kv_bytes)
    assert msgspec.structs.replace(half, ranks=1).total_bytes == half.rank_bytes
