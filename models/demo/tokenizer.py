"""The tokenizer of the demo model: byte-level BPE trained on the corpus, and the chat template.

A number is split from the words around it and into pieces of at most two digits, so that 1 to 30 are one token each,
the same token in a prompt and at the start of a line.
"""

import json
import random
from itertools import islice
from pathlib import Path

from corpus import Corpus, Sample, Turn
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SYSTEM, USER, ASSISTANT, END = SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPLIT = r" ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] in ['system', 'developer'] -%}{{ '<|system|>' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|assistant|>' }}"
    "{%- else -%}{{ '<|user|>' }}{%- endif -%}"
    "{{ message['content'] | trim }}{{ '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def render(turns: tuple[Turn, ...]) -> str:
    """What the chat template makes of these turns, up to where the model answers."""
    marks = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    return "".join(f"{marks[turn.role]}{turn.content.strip()}{END}" for turn in turns) + ASSISTANT


def prompt_text(sample: Sample) -> str:
    """Everything that stands before the completion."""
    return render(sample.turns) if sample.turns else sample.raw


def end_id(tokenizer: Tokenizer) -> int:
    """The id of the token that ends a text."""
    found = tokenizer.token_to_id(END)
    assert found is not None
    return int(found)


def train_tokenizer(corpus: Corpus, entries: int, samples: int) -> Tokenizer:
    """Learn the merges from `samples` drawn samples; the counts 1 to 30 are added to the text so all become tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    drawn = islice(corpus.samples(random.Random(f"tokenizer {corpus.seed}")), samples)
    texts = ["\n".join([*(turn.content for turn in sample.turns), sample.raw, sample.completion]) for sample in drawn]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Save the tokenizer as Hugging Face lays it out."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "bos_token": None,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
