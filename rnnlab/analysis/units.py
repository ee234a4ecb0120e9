"""Which hidden units follow something a reader can name, as in Karpathy, Johnson and Fei-Fei (2015).

A feature is a number for each character of a text: what holds once the character has been read, as a unit's value is
that after reading it. Letters: N characters, U units, F features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Quotes and comments of prose and of programs. A blank line ends an open double quote, so that one that is never
# closed does not turn the rest of the text; a single quote must be closed on its line, and is none within a word.
_SPANS = re.compile(
    r"""
    (?P<double> \"{3} (?:\\.|.)*? (?:\"{3}|\Z) | \" (?:\\.|(?!\n\n)[^\"\\])* \"? )
    | (?P<single> (?<!\w)[bfru]{0,2} (?: '{3} (?:\\.|.)*? (?:'{3}|\Z) | ' (?:\\.|[^'\\\n]|(?<=\w)'(?=\w))* '(?!\w) ) )
    | (?P<comment> \#[^\n]* )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_OPENING, _CLOSING = "([{", ")]}"


class Match(NamedTuple):
    """The unit that follows a feature most closely.

    Attributes:
        feature: its name.
        unit: the unit's number, from 0 to U - 1.
        correlation: Pearson's, on the passage it is reported on.
        chosen_at: Pearson's on the passage the unit was chosen on; the same if there was only one.
    """

    feature: str
    unit: int
    correlation: float
    chosen_at: float


def text_features(text: str) -> dict[str, np.ndarray]:
    """Return features of each character, float64 (N,) each, by name.

    Quotes include the opening mark and not the closing one. Brackets within quotes and comments are not counted, and a
    blank line closes all.
    """
    spans = {name: np.zeros(len(text)) for name in ("double", "single", "comment")}
    for match in _SPANS.finditer(text):
        name, (start, stop) = str(match.lastgroup), match.span()
        if name != "comment":
            mark = {"double": '"', "single": "'"}[name]
            start = text.index(mark, start)
            is_closed = stop - start > 1 and text[stop - 1] == mark
            stop -= is_closed
        spans[name][start:stop] = 1
    is_code = (spans["double"] + spans["single"] + spans["comment"]) == 0
    counts = {
        name: np.zeros(len(text))
        for name in (
            "bracket depth",
            "position in the line",
            "indentation of the line",
            "lines since a blank line",
            "position in the word",
            "capitals in a row",
        )
    }
    depth = position = indentation = lines = word = capitals = 0
    for index, character in enumerate(text):
        if character == "\n":
            is_blank = position == indentation
            lines = 0 if is_blank else lines + 1
            depth = 0 if is_blank else depth
            position = indentation = 0
        else:
            indentation += character in " \t" and position == indentation
            position += 1
        if is_code[index]:
            depth = max(0, depth + (character in _OPENING) - (character in _CLOSING))
        word = word + 1 if character.isalnum() or character == "_" else 0
        capitals = capitals + 1 if character.isupper() else 0
        for values, value in zip(counts.values(), (depth, position, indentation, lines, word, capitals), strict=True):
            values[index] = value
    return {
        "inside double quotes": spans["double"],
        "inside single quotes": spans["single"],
        "inside a comment": spans["comment"],
        **counts,
    }


def correlations(features: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation (F, U) of each feature (F, N) with each unit (N, U); 0 where one is constant."""
    scaled = [_standardised(np.asarray(values, dtype=np.float64)) for values in (features, np.transpose(activations))]
    return np.clip(scaled[0] @ scaled[1].T, -1, 1)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Return rows of mean 0 and norm 1; constant ones are 0."""
    # By the range: the mean of equal numbers need not be that number, and the rest would be blown up.
    is_constant = np.ptp(values, axis=1, keepdims=True) == 0
    centred = np.where(is_constant, 0.0, values - values.mean(axis=1, keepdims=True))
    return centred / np.where(is_constant, 1.0, np.linalg.norm(centred, axis=1, keepdims=True))


def best_units(
    activations: np.ndarray,
    features: Mapping[str, np.ndarray],
    held_out: tuple[np.ndarray, Mapping[str, np.ndarray]] | None = None,
) -> list[Match]:
    """Return for each feature the unit of the largest absolute correlation.

    The best of a thousand units correlates with anything, so what it is worth shows only on a passage it was not
    chosen on: give one as `held_out`.

    Args:
        activations: (N, U), of the passage to choose on.
        features: (N,) each; those constant in either passage are left out.
        held_out: activations and features of the passage whose correlations are reported. None reports those of the
            choice itself.

    Returns:
        Matches by falling absolute correlation, as reported.

    Raises:
        ValueError: shapes do not fit together.
    """
    chosen_on = (np.asarray(activations), features)
    reported_on = chosen_on if held_out is None else (np.asarray(held_out[0]), held_out[1])
    for units, named in (chosen_on, reported_on):
        wrong = [name for name, values in named.items() if units.ndim != 2 or values.shape != units.shape[:1]]
        if wrong or units.shape[1:] != chosen_on[0].shape[1:] or set(named) != set(features):
            raise ValueError(
                "expected activations (N, U) and the same features (N,) of both passages, got "
                f"{units.shape} and {', '.join(f'{name} {values.shape}' for name, values in named.items())}"
            )
    names = [name for name in features if all(np.ptp(named[name]) > 0 for _, named in (chosen_on, reported_on))]
    if not names:
        return []
    choice, report = (
        correlations(np.stack([named[n] for n in names]), units) for units, named in (chosen_on, reported_on)
    )
    matches = []
    for index, name in enumerate(names):
        unit = int(np.abs(choice[index]).argmax())
        matches.append(Match(name, unit, float(report[index, unit]), float(choice[index, unit])))
    return sorted(matches, key=lambda match: -abs(match.correlation))
