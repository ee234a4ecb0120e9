"""Sentences of a generated language, of which it is known how well they can be tagged."""

from __future__ import annotations

import hashlib
from typing import Any

from rnnlab.data import ambiguous
from rnnlab.data.checks import check_integer
from rnnlab.data.conllu_text import Sentence
from rnnlab.data.tagged import SentenceData


class GeneratedTaggerData(SentenceData):
    """Sentences of a made-up language, of which it is known how well they can be tagged (`rnnlab.data.ambiguous`).

    Args:
        num_train, num_val, num_test: sentences of each part, 10 words long on average.
        corpus_seed: decides the language and its sentences.
        min_count, max_chars, max_tokens, eval_max_tokens, seed: see `SentenceData`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_train: int = 4_000,
        num_val: int = 3_000,
        num_test: int = 3_000,
        corpus_seed: int = 0,
        min_count: int = 1,
        max_chars: int = 30,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 4_000,
        seed: int = 0,
    ) -> None:
        super().__init__("upos", min_count, False, max_chars, max_tokens, eval_max_tokens, None, seed)
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_sentences = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.language = ambiguous.make_language(self.corpus_seed)

    def read_parts(self) -> tuple[dict[str, list[Sentence]], dict[str, Any]]:
        parts = {
            part: ambiguous.draw_sentences(self.language, number, [self.corpus_seed, stream])
            for stream, (part, number) in enumerate(self.num_sentences.items(), start=1)
        }
        return parts, {"sha256": hashlib.sha256(repr(parts["train"]).encode()).hexdigest()}

    def baselines(self) -> dict[str, float]:
        """Add what nothing can beat but by luck: the share of right tags of a tagger that knows the language.

        'optimum/val/accuracy' is what it reaches on validation, 'optimum/val/expected_accuracy' what it should on
        average, over all tags these words could have; likewise for test.
        """
        result = super().baselines()
        for part in ("val", "test"):
            sentences = self.sentences[part]
            result[f"optimum/{part}/accuracy"] = ambiguous.bayes_accuracy(self.language, sentences)
            result[f"optimum/{part}/expected_accuracy"] = ambiguous.bayes_expected(self.language, sentences)
        return result
