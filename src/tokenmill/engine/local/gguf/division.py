"""How byte-level tokenizers divide a text before they look for tokens, by the names that GGUF files use.

The expressions are those of the models' own tokenizers, so a text becomes the same tokens as in their folders.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.metadata import Metadata
from tokenmill.quant.gguf.splitting import expression_of

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}")


class Division(Struct, frozen=True, kw_only=True):
    """Expressions that divide a text one after the other, and what goes with them.

    `composed`: the text is brought into Unicode's composed form first. `ignores_merges`: a word that is a token is
    taken as such. `begins`: whether a text begins with its own token where a file doesn't say.
    """

    expressions: tuple[str, ...]
    composed: bool = False
    ignores_merges: bool = False
    begins: bool = False

    @property
    def normalizer(self) -> dict[str, object] | None:
        return {"type": "NFC"} if self.composed else None

    @property
    def steps(self) -> list[dict[str, object]]:
        """The division in the form of tokenizer.json; bytes come last."""
        splits: list[dict[str, object]] = [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
            for expression in self.expressions
        ]
        return [*splits, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]


_GPT2_LIKE = Division(expressions=(_GPT2,))
_LLAMA3_LIKE = Division(expressions=(expression_of("llama-bpe"),), ignores_merges=True, begins=True)
_QWEN2_LIKE = Division(expressions=(expression_of("qwen2"),), composed=True)
_SINGLE_DIGITS = Division(expressions=(r"\p{N}", _GPT2))

DIVISIONS = {
    "gpt-2": _GPT2_LIKE,
    "llama-bpe": _LLAMA3_LIKE,
    "llama-v3": _LLAMA3_LIKE,
    "llama3": _LLAMA3_LIKE,
    "falcon3": _LLAMA3_LIKE,
    "qwen2": _QWEN2_LIKE,
    "deepseek-r1-qwen": _QWEN2_LIKE,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "smaug-bpe": Division(expressions=(expression_of("llama-bpe"),)),
    "qwen35": Division(expressions=(expression_of("qwen35"),)),
    "gpt-4o": Division(expressions=(expression_of("gpt-4o"),)),
    "deepseek-coder": Division(expressions=_DEEPSEEK_CODER),
    "tekken": Division(expressions=(expression_of("tekken"),), ignores_merges=True, begins=True),
}


def division(metadata: Metadata) -> Division:
    """The division that `metadata` name; raises `BadModel` for one that isn't known."""
    name = metadata.text("tokenizer.ggml.pre", "")
    if name not in DIVISIONS:
        raise BadModel(
            f"{metadata.source}: how its tokenizer divides a text is named {name!r} and not known here "
            f"({', '.join(DIVISIONS)}); take the model's folder, or convert it again with a newer tool"
        )
    return DIVISIONS[name]
