"""Answers of a search: one text a question, or several with their log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def nbest_texts(found: Sequence[Sequence[Any]], text: Callable[[Any], str]) -> list[Any]:
    """Return a text for each question; where one has several answers, (text, log-probability) of all, the best first.

    Args:
        found: for each question, answers with `ids` and `log_prob`.
        text: what ids say.
    """
    if all(len(answers) <= 1 for answers in found):
        return [text(answers[0].ids) if answers else "" for answers in found]
    return [[(text(answer.ids), float(answer.log_prob)) for answer in answers] for answers in found]


def nbest_lines(names: Iterable[Any], texts: Sequence[Any]) -> str:
    """Return a line "name<TAB>text" a question, or of several answers "name<TAB>text<TAB>log-probability" each."""
    lines = []
    for name, answer in zip(names, texts, strict=True):
        if isinstance(answer, str):
            lines.append(f"{name}\t{answer}\n")
        else:
            lines += [f"{name}\t{text}\t{log_prob:.4f}\n" for text, log_prob in answer]
    return "".join(lines)
