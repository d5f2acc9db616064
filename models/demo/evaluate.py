"""Measure the demo model: does it give as many different sentences as it was asked for, and does it stop?

    python models/demo/evaluate.py src/tokenmill/demo

Greedy decoding by transformers, weights widened to fp32. The counter knows nothing of the corpus: it sees lines.
"""

import argparse
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from corpus import BENCHMARK_TOPIC, MOST, Corpus, Turn, count_down, fill
from tokenizer import render
from transformers import AutoTokenizer, LlamaForCausalLM

LINE = re.compile(r"(\d+): (\S.*)")
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request of the evaluation; `expected` is the exact text where the corpus fixes it."""

    prompt: str
    count: int
    expected: str | None = None
    system: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model wrote; `is_ended` when it stopped by itself and not at the context's end."""

    text: str
    is_ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Shares of a set of questions, from 0 to 1; `exact` is None where no text was expected."""

    questions: int
    counted: float
    ended: float
    exact: float | None


def is_counted(answer: Answer, count: int) -> bool:
    """Exactly the numbers count to 1, one a line, each with a sentence unlike all others, ended by the model."""
    lines = [LINE.fullmatch(line) for line in answer.text.split("\n")]
    if not answer.is_ended or any(line is None for line in lines):
        return False
    found = [(int(line[1]), line[2]) for line in lines if line is not None]
    return [number for number, _ in found] == list(range(count, 0, -1)) and len({text for _, text in found}) == count


class Model:
    """The folder, loaded for greedy decoding."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def complete(self, questions: list[Question], batch: int) -> list[Answer]:
        """Answers in the order of the questions, `batch` at a time."""
        answers: list[Answer] = []
        for start in range(0, len(questions), batch):
            prompts = [render(turns_of(question)) for question in questions[start : start + batch]]
            answers += self._complete(prompts)
        return answers

    def _complete(self, prompts: list[str]) -> list[Answer]:
        end = self.tokenizer.eos_token_id
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
        length = inputs["input_ids"].shape[1]
        room = self.model.config.max_position_embeddings - length
        with torch.inference_mode():
            rows = self.model.generate(**inputs, max_new_tokens=room, do_sample=False)[:, length:].tolist()
        answers = []
        for row in rows:
            kept = row[: row.index(end)] if end in row else row
            answers.append(Answer(text=self.tokenizer.decode(kept), is_ended=end in row))
        return answers


def turns_of(question: Question) -> tuple[Turn, ...]:
    """The conversation of a question."""
    user = Turn(role="user", content=question.prompt)
    return (user,) if question.system is None else (Turn(role="system", content=question.system), user)


def benchmark(corpus: Corpus) -> list[Question]:
    """The thirty prompts of the sentences workload."""
    phrase, facts = corpus.phrases["benchmark"], corpus.topics[0].facts
    assert corpus.topics[0].name == BENCHMARK_TOPIC
    counts = range(1, MOST + 1)
    return [
        Question(prompt=fill(phrase, count, BENCHMARK_TOPIC), count=count, expected=count_down(facts, count))
        for count in counts
    ]


def known(corpus: Corpus, phrases: Iterable[str], counts: dict[str, list[int]]) -> list[Question]:
    """Every phrase with every topic that has facts and that topic's counts."""
    return [
        Question(prompt=fill(phrase, count, topic.name), count=count, expected=count_down(topic.facts, count))
        for phrase in phrases
        for topic in corpus.topics
        for count in counts[topic.name]
    ]


def question_sets(corpus: Corpus) -> dict[str, list[Question]]:
    """All that is measured, by name."""
    draw, phrases = random.Random("evaluation"), corpus.phrases
    held = {name: sorted(counts) for name, counts in corpus.held_out.items()}
    trained = {name: [n for n in range(1, MOST + 1) if n not in counts] for name, counts in corpus.held_out.items()}
    some = {name: sorted(draw.sample(counts, 3)) for name, counts in trained.items()}
    few = {name: counts[:1] for name, counts in some.items()}
    return {
        "workload": benchmark(corpus),
        "trained topic and N": known(corpus, [phrases["benchmark"]], some),
        "held-out topic and N": known(corpus, [phrases["benchmark"], "List {n} {f} about {t}"], held),
        "held-out phrasing": known(corpus, phrases["ask_unseen"], some),
        "unseen system message": [
            Question(prompt=q.prompt, count=q.count, expected=q.expected, system="You speak to a class of pupils.")
            for q in known(corpus, [phrases["benchmark"]], few)
        ],
        "topic never seen": [
            Question(prompt=fill(phrases["benchmark"], count, topic), count=count)
            for topic in phrases["unseen_topic"]
            for count in draw.sample(range(1, MOST + 1), 3)
        ],
        "other prompt": [Question(prompt=prompt, count=0) for prompt in phrases["other_unseen"]],
    }


def score(questions: list[Question], answers: list[Answer]) -> Score:
    """Shares over one set."""
    pairs = list(zip(questions, answers, strict=True))
    fixed = [(question, answer) for question, answer in pairs if question.expected is not None]
    return Score(
        questions=len(pairs),
        counted=sum(is_counted(answer, question.count) for question, answer in pairs) / len(pairs),
        ended=sum(answer.is_ended for answer in answers) / len(pairs),
        exact=sum(question.expected == answer.text for question, answer in fixed) / len(fixed) if fixed else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the demo model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=20261120, help="the seed of the training, which set the held-out N")
    parser.add_argument("--only", help="measure this set alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answers", type=Path, help="also write every answer to this JSONL file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, lines = Model(arguments.folder), []
    print("| set | prompts | counted exactly | ended | text as trained |\n|---|---|---|---|---|")
    for name, questions in question_sets(Corpus(arguments.seed)).items():
        if arguments.only not in (None, name):
            continue
        answers = model.complete(questions, 1 if name == "workload" else BATCH)
        found = score(questions, answers)
        counted = "" if name == "other prompt" else f"{found.counted:.1%}"
        exact = "" if found.exact is None else f"{found.exact:.1%}"
        print(f"| {name} | {found.questions} | {counted} | {found.ended:.1%} | {exact} |", flush=True)
        for question, answer in zip(questions, answers, strict=True):
            right = is_counted(answer, question.count)
            lines.append({"set": name, "prompt": question.prompt, "counted": right, "answer": answer.text})
    if arguments.answers:
        arguments.answers.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
