"""From the classes of frames to text, in connectionist temporal classification: the best path, and prefix beam search.

Letters: T frames, B rows, V classes with the blank, K prefixes of each row at most.

A text's probability is the sum over its alignments (see `rnnlab.decoding.alignment`), and the text of the likeliest
alignment need not be the likeliest text: prefix beam search looks for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rnnlab.decoding.alignment import BLANK, align, check_lengths
from rnnlab.decoding.language_model import LanguageModel
from rnnlab.decoding.prefixes import Options, PrefixSearch, Text

# Entries of the largest array of a search: rows that would need more are searched in parts.
_ENTRIES = 2**22


class Transcript(NamedTuple):
    """What a row says.

    Attributes:
        ids: its symbols, without blanks.
        log_prob: in nats; of the text, as far as it was added up, or from `best_path` of the alignment.
        frames: for each symbol the frame of its spike, where it is likeliest within its run on the best alignment.
        score: what transcripts are ordered by: `log_prob` with the language model and the bonus.
    """

    ids: list[int]
    log_prob: float
    frames: list[int]
    score: float


def best_path(logits: Tensor, lengths: Tensor) -> list[Transcript]:
    """Return the text of the likeliest alignment of each row: the likeliest class of each frame.

    Args:
        logits: (T, B, V), class 0 the blank; whatever stands beyond a row's length has no influence.
        lengths: integers (B,) from 0 to T.

    Returns:
        B transcripts.

    Raises:
        ValueError: shapes or lengths that do not fit, or NaN within a row.
    """
    log_probs = _log_probs(logits, lengths)
    best, classes = log_probs.max(2)
    beyond = torch.arange(len(best)).unsqueeze(1) >= lengths.cpu()
    totals = best.masked_fill(beyond, 0.0).sum(0).tolist()
    classes = classes.masked_fill(beyond, BLANK)
    found = _spikes(classes, log_probs)
    return [Transcript(ids, total, frames, total) for (ids, frames), total in zip(found, totals, strict=True)]


def prefix_beam(
    logits: Tensor,
    lengths: Tensor,
    *,
    beam: int = 16,
    n_best: int = 1,
    language_model: LanguageModel | None = None,
    lm_weight: float = 0.5,
    insertion_bonus: float = 0.0,
    min_prob: float = 0.0,
) -> list[list[Transcript]]:
    """Return the likeliest texts of each row, as far as a beam of prefixes finds them.

    A prefix is ranked by its log-probability, plus `lm_weight` times that of the language model, plus `insertion_bonus`
    for each symbol; equal ones by their number in the beam. With a beam as wide as there are prefixes this is exact,
    and else a transcript's log-probability may lack alignments that left the beam. Rows are searched side by
    side, and none depends on another.

    Args:
        logits: (T, B, V), class 0 the blank; whatever stands beyond a row's length has no influence.
        lengths: integers (B,) from 0 to T.
        beam: K, at least 1.
        n_best: transcripts of a row, at most K.
        language_model: asked once for each prefix and symbol, `min_prob` spares most of that; never asked how likely a
            text is to end.
        lm_weight: at least 0.
        insertion_bonus: in nats; against a language model's liking for short texts.
        min_prob: classes of less probability in a frame extend no prefix there; from 0 to below 1.

    Returns:
        For each row up to `n_best` transcripts by falling score; fewer where a row has fewer texts.

    Raises:
        ValueError: shapes, lengths or numbers out of range, or NaN within a row.

    Example:
        >>> probs = torch.tensor([0.6, 0.4]).expand(2, 1, 2)  # twice the blank: 0.36; some way to say 1: 0.64
        >>> [[found]] = prefix_beam(probs.log(), torch.tensor([2]))
        >>> best_path(probs.log(), torch.tensor([2]))[0].ids, found.ids, round(found.log_prob, 3)  # ln 0.64
        ([], [1], -0.446)
    """
    options = _options(beam, n_best, language_model, lm_weight, insertion_bonus, min_prob)
    log_probs, lengths = _log_probs(logits, lengths), lengths.cpu()
    found: dict[int, list[Transcript]] = {}
    at_once = max(1, _ENTRIES // (beam * logits.shape[2]))
    for part in torch.argsort(lengths, descending=True, stable=True).split(at_once):
        found.update(zip(part.tolist(), _search(log_probs[:, part], lengths[part], n_best, options), strict=True))
    return [found[row] for row in range(len(lengths))]


def best_path_in_parts(parts: Iterable[Tensor]) -> Transcript:
    """Return what `best_path` does of one row whose logits come in parts (T_i, V), in memory for its text alone."""
    spikes, total = _Spikes(), 0.0
    for log_probs in _log_probs_of_parts(parts):
        best, classes = log_probs.max(1)
        total += float(best.sum())
        spikes.add(classes.tolist(), best.tolist())
    return Transcript(spikes.ids, total, spikes.frames, total)


def prefix_beam_in_parts(
    parts: Iterable[Tensor],
    *,
    beam: int = 16,
    n_best: int = 1,
    language_model: LanguageModel | None = None,
    lm_weight: float = 0.5,
    insertion_bonus: float = 0.0,
    min_prob: float = 0.0,
) -> list[Text]:
    """Return what `prefix_beam` does of one row whose logits come in parts (T_i, V), in memory for its texts alone.

    All but the frames of symbols: these are known when the text is, from `rnnlab.decoding.follow_text`.
    """
    options = _options(beam, n_best, language_model, lm_weight, insertion_bonus, min_prob)
    search: PrefixSearch | None = None
    for log_probs in _log_probs_of_parts(parts):
        search = search or PrefixSearch(1, log_probs.shape[1], options)
        for frame in log_probs.numpy():
            search.read(frame[None])
        search.forget()
    return [Text([], 0.0, 0.0)] if search is None else search.texts(0, n_best)


def _log_probs_of_parts(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the log-probabilities, float64 (T_i, V), of logits that come in parts."""
    for part in parts:
        yield _log_probs(part.unsqueeze(1), torch.tensor([len(part)])).squeeze(1)


def _options(
    beam: int,
    n_best: int,
    language_model: LanguageModel | None,
    lm_weight: float,
    insertion_bonus: float,
    min_prob: float,
) -> Options:
    if not 1 <= n_best <= beam:
        raise ValueError(f"n_best must be from 1 to beam = {beam}, got {n_best}")
    if lm_weight < 0 or not 0 <= min_prob < 1:
        raise ValueError(f"lm_weight must be at least 0 and min_prob in [0, 1), got {lm_weight} and {min_prob}")
    return Options(beam, language_model if lm_weight else None, lm_weight, insertion_bonus, min_prob)


def _search(log_probs: Tensor, lengths: Tensor, n_best: int, options: Options) -> list[list[Transcript]]:
    """Return the transcripts of each row of log_probs (T, B, V), by falling length."""
    texts = PrefixSearch(*log_probs.shape[1:], options).run(log_probs.numpy(), lengths.numpy(), n_best)
    rows = [row for row, found in enumerate(texts) for _ in found]
    spelled = [torch.tensor(text.ids, dtype=torch.int64) for found in texts for text in found]
    sizes = torch.tensor([len(ids) for ids in spelled], dtype=torch.int64)
    targets = pad_sequence(spelled, batch_first=True) if spelled else sizes.new_zeros(0, 0)
    frames = iter(_spikes(align(log_probs[:, rows], lengths[rows], targets, sizes), log_probs[:, rows]))
    return [[Transcript(text.ids, text.log_prob, next(frames)[1], text.score) for text in found] for found in texts]


def _log_probs(logits: Tensor, lengths: Tensor) -> Tensor:
    """Return log-probabilities, float64 (T, B, V) on the CPU; raise ValueError if there is no telling what they are."""
    check_lengths(logits, lengths)
    log_probs = logits.detach().cpu().double().log_softmax(2)
    inside = torch.arange(len(logits)).unsqueeze(1) < lengths.cpu()
    unknown = (log_probs.isnan().any(2) & inside).nonzero().tolist()
    if unknown:
        frame, row = unknown[0]
        raise ValueError(f"logits of row {row} make no probabilities in frame {frame}: there is NaN, or all are -inf")
    return log_probs


def _spikes(classes: Tensor, log_probs: Tensor) -> list[tuple[list[int], list[int]]]:
    """Return symbols and the frame of each, where it is likeliest in its run, from classes (T, B) of alignments."""
    values = log_probs.gather(2, classes.unsqueeze(2)).squeeze(2)
    rows = zip(classes.t().tolist(), values.t().tolist(), strict=True)
    return [(spikes.ids, spikes.frames) for spikes in (_Spikes().add(*row) for row in rows)]


class _Spikes:
    """Symbols of an alignment and the frame of each, where it is likeliest in its run."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.frames: list[int] = []
        self._count, self._before, self._highest = 0, BLANK, -math.inf

    def add(self, classes: Sequence[int], certainties: Sequence[float]) -> _Spikes:
        """Go on with the classes of frames, and how likely they are; return itself."""
        for t, (symbol, certainty) in enumerate(zip(classes, certainties, strict=True), self._count):
            is_new = symbol != self._before
            if symbol != BLANK and (is_new or certainty > self._highest):
                if is_new:
                    self.ids.append(symbol)
                    self.frames.append(t)
                self.frames[-1], self._highest = t, certainty
            self._before = symbol
        self._count += len(classes)
        return self
