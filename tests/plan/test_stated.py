"""Sizes, devices and models as people state them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenmill.errors import TokenmillError, UsageError
from tokenmill.plan.gpus import Gpus, memory_of, parse_gpus
from tokenmill.plan.known_shapes import KNOWN
from tokenmill.plan.shape import find_shape, make_shape
from tokenmill.plan.sizes import read_compute, read_rate, read_size, read_time, show_size, show_token, two_digits

#: Parameters as the makers or the hub count them.
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
}
MIXTRAL: dict[str, Any] = dict(KNOWN["mixtral-8x7b"].config)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_known_shape_has_the_published_size(name: str) -> None:
    """The parameters that follow from a kept configuration are those that were published."""
    assert find_shape(name).parameters == PUBLISHED[name]


def test_a_mixture_passes_two_experts_of_eight() -> None:
    """Mixtral 8x7B holds 46.7 billion numbers, a token passes 12.7 billion of them, and leaves 128 KiB."""
    shape = find_shape("mixtral-8x7b")

    assert (shape.experts, shape.active) == (8, 2)
    assert shape.passed == pytest.approx(12.7e9, rel=0.01)
    assert shape.kv_token(2) == 128 * 1024


@pytest.mark.parametrize(("tokens", "read"), [(1, 2.0), (2, 3.5), (1000, 8.0)])
def test_more_tokens_read_more_experts(tokens: int, read: float) -> None:
    """One token reads the experts it is sent to; many tokens read all."""
    assert find_shape("mixtral-8x7b").experts_read(tokens) == pytest.approx(read)


def test_a_folder_and_a_file_say_the_same(tmp_path: Path) -> None:
    """A configuration may stand in its folder, or be named alone, and weights needn't be there."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTRAL), encoding="utf-8")

    by_folder, by_file = find_shape(str(folder)), find_shape(str(folder / "config.json"))

    assert by_folder.parameters == by_file.parameters == PUBLISHED["mixtral-8x7b"]
    assert by_folder.name == "my-model"


def test_quantized_weights_are_planned_by_their_shape() -> None:
    """A plan needs no weights, so a configuration of quantized ones is read too."""
    values = MIXTRAL | {"quantization_config": {"bits": 8}, "architectures": ["MixtralForCausalLM"]}

    assert make_shape(values, {}, "m", "config.json").parameters == PUBLISHED["mixtral-8x7b"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9 is more than num_local_experts 8"),
        ({"num_local_experts": None}, "num_local_experts is missing"),
        ({"model_type": "qwen3_moe"}, "a plan reads 'mixtral' only"),
        ({"num_attention_heads": 30}, "num_key_value_heads 8 doesn't divide"),
        ({"model_type": "mystery", "num_local_experts": None}, "model_type 'mystery' isn't supported"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(change: dict[str, object], text: str) -> None:
    """The line names the key and what is wrong with it."""
    with pytest.raises(TokenmillError) as refused:
        make_shape(MIXTRAL | change, {}, "m", "config.json")

    assert text in str(refused.value)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """A name that is nothing, a folder without a configuration, and a file that is none are told with the way out."""
    (tmp_path / "weights.bin").write_bytes(b"x")

    for name, text in (("nosuch", "one of gpt2"), (str(tmp_path), "no config.json"), ("weights.bin", "no config.json")):
        with pytest.raises(UsageError, match=text):
            find_shape(str(tmp_path / name) if name.endswith("bin") else name)


def test_devices_are_counted() -> None:
    """Groups of equal devices, in decimal units or powers of two."""
    assert parse_gpus("8x80GB, 2X24GiB") == (Gpus(count=8, memory=80_000_000_000), Gpus(count=2, memory=24 << 30))
    assert memory_of(parse_gpus("10x11GB")) == 110_000_000_000


@pytest.mark.parametrize(
    "text", ["", "11GB", "10x", "10x11", "x11GB", "0x11GB", "2x0GB", "2x-1GB", "9999x1GB", "1x1GB,"]
)
def test_devices_that_cannot_be_read_are_refused(text: str) -> None:
    """One line with the option, what was written, and how to write it."""
    with pytest.raises(UsageError, match="--gpus: ") as refused:
        parse_gpus(text)
    assert "\n" not in str(refused.value)


def test_rates_and_times_have_units() -> None:
    """Bytes and bits per second, operations and times are read with their units."""
    assert read_rate("616GB/s", "x") == 616e9
    assert read_rate("100Gbit/s", "x") == 12.5e9
    assert read_compute("65TFLOPS", "x") == read_compute("65 TFLOP/s", "x") == 65e12
    assert read_time("10us", "x") == pytest.approx(1e-5)
    assert read_size("1.5GiB", "x") == 3 << 29


@pytest.mark.parametrize(
    ("read", "text"),
    [(read_rate, "616"), (read_rate, "616GB"), (read_rate, "0GB/s"), (read_compute, "65"), (read_time, "10")],
)
def test_a_figure_without_its_unit_is_refused(read: Any, text: str) -> None:
    """Nobody guesses whether a number meant bits, bytes or seconds."""
    with pytest.raises(UsageError, match=f"--x: '{text}'"):
        read(text, "--x")


def test_predictions_have_two_digits() -> None:
    """What is predicted is shown as well as it is known."""
    assert [two_digits(value) for value in (46.7, 467.0, 4.67, 6.33, 0.123, 9.96, 0)] == [
        "47",
        "470",
        "4.7",
        "6.3",
        "0.12",
        "10",
        "0",
    ]
    assert (show_size(46.7e9), show_size(830e6), show_token(131072)) == ("47 GB", "830 MB", "128 KiB")
