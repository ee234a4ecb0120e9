"""Electrocardiograms: generated ones to learn from, with the truth, and records of a user's own to be answered.

Letters: R records, N samples, K beats of the record that has most.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnlab.baselines import match_beats, pan_tompkins
from rnnlab.data.batches import InMemoryData, Queries
from rnnlab.data.checks import check_batch_size, check_integer, check_number, check_range
from rnnlab.data.ecg_features import Conditioner
from rnnlab.data.ecg_noise import Levels, draw_gaps, draw_noise, with_gaps
from rnnlab.data.heartbeats import POINTS, Beats, Kinds, draw_beats, render
from rnnlab.data.leads import Lead
from rnnlab.data.physionet import annotation_file, read_beats
from rnnlab.data.question_files import columns_file, wave_and_rate
from rnnlab.data.records import answer_table, find_lead
from rnnlab.data.resampling import Resampler

MARKS = ("r", "q", "s", "qrs_on", "qrs_off")  # what is to be found of a beat
RATES = (125, 128, 200, 250, 257, 360, 500)  # at which generated records were sampled
SAMPLE_RATE = 250  # to which all records are brought
TOLERANCE = 0.05  # seconds between a beat and what counts as it
_COLUMNS = [POINTS.index(mark) for mark in MARKS]
_STEP = 0.005  # mV of the last bit of a converter


class Record(NamedTuple):
    """A generated record.

    Attributes:
        signal: mV, at `rate`, (N,).
        rate: samples a second.
        beats: the truth.
        is_scored: False for beats whose QRS lies in or within 50 ms of a gap, or beyond an end of the record, (K,).
        level: of its noise.
    """

    signal: np.ndarray
    rate: int
    beats: Beats
    is_scored: np.ndarray
    level: float


class LeadStream(NamedTuple):
    """A lead of a user's record, as features in pieces: the batch that `predict_step` answers for it.

    Attributes:
        data: by whose features it is read.
        lead: the lead.
    """

    data: ECGData
    lead: Lead

    def pieces(self) -> Iterator[Tensor]:
        """Yield the features of the record from its start, float32 (N_i,); its memory does not grow with it."""
        resample = Resampler(self.lead.rate, SAMPLE_RATE)
        for piece in self.data.conditioner.stream(resample.stream(self.lead.pieces())):
            yield torch.from_numpy(piece)


class ECGData(InMemoryData):
    """Generated electrocardiograms (`rnnlab.data.heartbeats`) in noise (`rnnlab.data.ecg_noise`), and where beats are.

    Each record is of one heart: rate, rhythm, shape, lead, sampling rate and noise are its own. It is brought to 250
    samples a second and conditioned (`rnnlab.data.ecg_features`). A batch is signal, float32 (B, N); points, seconds of
    `MARKS` from the record's start, float64 (B, K, 5), NaN where there are fewer beats; and which beats are scored,
    bool (B, K).

    Args:
        num_train, num_val, num_test: records of each part.
        seconds: length of a record.
        min_rate, max_rate: beats a minute, in a record's mean.
        min_level, max_level: of noise: multiplies all of the following, drawn evenly on a logarithmic axis.
        wander, mains, muscle, motion: at level 1, in mV, see `rnnlab.data.ecg_noise.Levels`.
        gaps: share of records with the electrode off for a while.
        inverted, block, ectopic, early: see `rnnlab.data.heartbeats.Kinds`.
        corpus_seed: decides the records.
        batch_size: records a batch.
        seed: decides the order of training.
        lead: of records to be answered: its name, or its number from 0 on; None for the first one.
        record_rate: samples a second of records that do not say it.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    unit = "records"

    def __init__(
        self,
        num_train: int = 5_000,
        num_val: int = 300,
        num_test: int = 1_000,
        seconds: float = 10.0,
        min_rate: float = 45.0,
        max_rate: float = 160.0,
        min_level: float = 0.3,
        max_level: float = 3.0,
        wander: float = 0.15,
        mains: float = 0.04,
        muscle: float = 0.015,
        motion: float = 0.2,
        gaps: float = 0.25,
        inverted: float = 0.15,
        block: float = 0.12,
        ectopic: float = 0.35,
        early: float = 0.2,
        corpus_seed: int = 0,
        batch_size: int = 32,
        seed: int = 0,
        lead: str | int | None = None,
        record_rate: float | None = None,
    ) -> None:
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_records = {part: check_integer(f"num_{part}", number, 1) for part, number in given.items()}
        super().__init__(check_batch_size(batch_size, num_train), seed)
        self.seconds = check_number("seconds", seconds, 2.0, 3600.0)
        self.rate = check_range("rate", min_rate, max_rate, 20.0, 250.0)
        self.level = check_range("level", min_level, max_level, 1e-3, 100.0)
        heights = {"wander": wander, "mains": mains, "muscle": muscle, "motion": motion}
        shares = {"gaps": gaps, "inverted": inverted, "block": block, "ectopic": ectopic, "early": early}
        for name, value in heights.items():
            check_number(name, value, 0.0, 10.0)
        for name, value in shares.items():
            check_number(name, value, 0.0, 1.0)
        self.levels, self.kinds = Levels(**heights, gaps=gaps), Kinds(inverted, block, ectopic, early)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        self.lead = lead
        self.record_rate = None if record_rate is None else check_number("record_rate", record_rate, 50.0, 10_000.0)
        self.sizes = {"num_points": len(MARKS), "sample_rate": SAMPLE_RATE}
        self.conditioner = Conditioner(SAMPLE_RATE)

    def records(self, part: str) -> Iterator[Record]:
        """Yield the records of a part, each a function of `corpus_seed`, part and number alone."""
        stream = list(self.num_records).index(part)
        for number in range(self.num_records[part]):
            yield self._draw(np.random.default_rng([self.corpus_seed, stream, number]))

    def _draw(self, rng: np.random.Generator) -> Record:
        rate = int(rng.choice(RATES))
        size = int(self.seconds * rate)
        beats = draw_beats(self.seconds, rng.uniform(*self.rate), self.kinds, rng)
        level = float(np.exp(rng.uniform(*np.log(self.level))))
        signal = render(beats, rate, size) + draw_noise(rate, size, level, self.levels, rng)
        gaps = draw_gaps(self.seconds, self.levels, rng)
        signal = np.rint(with_gaps(signal, rate, gaps, rng) / _STEP) * _STEP
        on, off = beats.column("qrs_on"), beats.column("qrs_off")
        is_hidden = (on < 0) | (off > self.seconds)
        for start, end in gaps:
            is_hidden |= (on < end + TOLERANCE) & (off > start - TOLERANCE)
        return Record(signal, rate, beats, ~is_hidden, level)

    def marks_of(self, record: Record) -> np.ndarray:
        """Return where `MARKS` truly are, seconds, (K, 5)."""
        return record.beats.points[:, _COLUMNS]

    def known_beats(self, queries: Queries) -> np.ndarray | None:
        """Return R of the beats that are annotated beside a record, seconds, (K, 1); None where there are none."""
        annotations = queries.context
        return None if annotations is None else read_beats(annotations, self.record_rate)[0][:, None]

    def features_of(self, signal: np.ndarray, rate: float) -> np.ndarray:
        """Return what the network reads of a signal (N,), float32, 250 values a second."""
        return self.conditioner(Resampler(rate, SAMPLE_RATE)(signal))

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        return {part: self._rows(list(self.records(part))) for part in self.num_records}

    def _rows(self, records: Sequence[Record]) -> tuple[Tensor, ...]:
        """Return signal (R, N), points (R, K, 5) and is_scored (R, K) of records of one length."""
        size, most = int(self.seconds * SAMPLE_RATE), max(len(record.beats.points) for record in records)
        signals = np.empty((len(records), size), dtype=np.float32)
        points = np.full((len(records), most, len(MARKS)), np.nan)
        is_scored = np.zeros((len(records), most), dtype=bool)
        for row, record in enumerate(records):
            signals[row] = self.features_of(record.signal, record.rate)[:size]
            count = len(record.is_scored)
            points[row, :count], is_scored[row, :count] = self.marks_of(record), record.is_scored
        return torch.from_numpy(signals), torch.from_numpy(points), torch.from_numpy(is_scored)

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: the records it learnt from, and how they were read."""
        settings = (self.num_records["train"], self.seconds, self.rate, self.level, self.levels, self.kinds)
        known_by = repr((*settings, self.corpus_seed, SAMPLE_RATE, MARKS))
        return {"sha256": hashlib.sha256(known_by.encode()).hexdigest()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict != self.state_dict():
            raise ValueError("the training part is not the one this run was trained on: data.* make other records")

    def baselines(self) -> dict[str, float]:
        """Return how a classical detector finds R: 'baseline/pan_tompkins/<part>/r_sensitivity' and the like."""
        result = {}
        for part in ("val", "test"):
            num_found = num_right = num_true = 0
            error = 0.0
            for record in self.records(part):
                found = pan_tompkins(record.signal, record.rate)
                true = record.beats.column("r")
                pairs = match_beats(found, true, TOLERANCE)
                is_scored = record.is_scored[pairs[:, 1]]
                num_found += len(found) - int((~is_scored).sum())
                num_right += int(is_scored.sum())
                num_true += int(record.is_scored.sum())
                error += float(np.abs(found[pairs[:, 0]] - true[pairs[:, 1]])[is_scored].sum())
            name = f"baseline/pan_tompkins/{part}"
            result[f"{name}/r_sensitivity"] = num_right / max(1, num_true)
            result[f"{name}/r_precision"] = num_right / max(1, num_found)
            result[f"{name}/r_error_ms"] = 1000 * error / max(1, num_right)
        return result

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Find a lead of a record, PhysioNet's or CSV, and read it through once, so that all of it can be answered.

        Raises:
            ValueError: it is missing, broken or flat, or its sampling rate is not known ("file: what is wrong").
        """
        lead = find_lead(path, self.lead, self.record_rate, encoding or self.encoding)
        return Queries([lead], lead.annotations, lead.notes, lead.files)

    def query_batches(self, queries: Queries) -> list[LeadStream]:
        return [LeadStream(self, lead) for lead in queries.inputs]

    def write_answers(self, queries: Queries, outputs: Sequence[Any]) -> str:
        """Return a table of beats, in seconds from the record's start.

        Args:
            queries: what `read_queries` returned.
            outputs: of its one lead: `points` (K, 5) and `is_wide` (K,).
        """
        (found,) = outputs
        return answer_table(found.points, found.is_wide)

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return a lead (millivolts (N,), samples a second) as a question, or the path of a record."""
        if isinstance(questions, Path):
            return self.read_queries(questions)
        signal, rate = wave_and_rate(questions)
        columns = {"time": (np.arange(len(signal)) / rate).tolist(), str(self.lead or "lead"): signal.tolist()}
        return self.read_queries(columns_file(columns, folder), "utf-8")

    def answers(self, queries: Queries, outputs: Sequence[Any]) -> list[dict[str, float]]:
        """Return the rows of the table of beats, by its columns."""
        rows = csv.DictReader(self.write_answers(queries, outputs).splitlines())
        return [{name: float(value) for name, value in row.items()} for row in rows]

    def encode_answers(self, queries: Queries, outputs: Sequence[Any], suffix: str) -> bytes:
        """Return the answer file: annotations of PhysioNet for '.atr', else the table."""
        if suffix.lower() != ".atr":
            return super().encode_answers(queries, outputs, suffix)
        (found,) = outputs
        return annotation_file(found.points, found.is_wide, queries.inputs[0].rate)

    def told(self, queries: Queries, outputs: Sequence[Any]) -> str:
        """Return how many beats there are, how fast they come, and how many are wide."""
        (found,) = outputs
        intervals = np.diff(np.asarray(found.points)[:, 0])
        rate = f", {60 / np.median(intervals):.0f} a minute" if len(intervals) else ""
        return f"{len(found.points)} beats{rate}, {int(sum(found.is_wide))} of them wide,"
