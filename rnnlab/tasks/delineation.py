"""Training of delineators: where the beats of an electrocardiogram are, and how long each QRS lasts.

B batch, N samples, T frames, K beats, P points of a beat, R's first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rnnlab.baselines import match_beats
from rnnlab.data.ecg import TOLERANCE
from rnnlab.decoding.beats import UNIT, BeatFinder
from rnnlab.decoding.sampling import check_number
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.means import sum_of_means
from rnnlab.tasks.schedule import OptimiserFactory, ScheduleFactory
from rnnlab.tasks.task import Task

_R, _Q, _S, _ON, _OFF = range(5)
_BESIDE = 1  # frames beside the two that share an R which learn its points, too


class Delineation(NamedTuple):
    """The beats of a record.

    Attributes:
        points: R, Q, S, QRS on- and offset, seconds from the record's start, float64 (K, 5).
        is_wide: whether QRS lasts longer than the limit, bool (K,).
    """

    points: np.ndarray
    is_wide: np.ndarray


class DelineationTask(Task):
    """Learn to find the beats of `rnnlab.data.ECGData`.

    Minimised, and logged as 'loss': the cross-entropy of where R is, shared by the two frames whose middles it is
    between, and twice the mean distance of all points from where they are told, in units of 20 ms; both for each beat.
    Beats that are not scored, in gaps and at the ends of a record, have no part in either.

    Logged for 'val/' and 'test/', all over scored beats, within 50 ms: 'r_sensitivity', the share of true beats that
    are found; 'r_precision', the share of found beats that are true (one found where nothing is scored counts as
    neither, one in a gap that is no beat as false); 'r_error_ms', 'q_error_ms', 's_error_ms' and 'qrs_error_ms', the
    mean absolute errors of R, Q, S and the duration of QRS; 'wide_sensitivity' and 'wide_precision', of beats whose QRS
    is longer than the limit.

    Args:
        model: signal (B, N) -> scores (T, B, 1 + P), as `rnnlab.models.Delineator`.
        optim: `optim(params)` gives the optimiser.
        schedule: `schedule(optimizer, total_steps=...)` gives a schedule by update; None keeps the rate.
        limit_ms: duration beyond which a QRS is wide.
        refractory_ms, threshold: see `rnnlab.decoding.beats.BeatFinder`.

    Raises:
        ValueError: an argument is out of range.

    Attributes:
        monitor: the metric that picks the best checkpoint, and which way is up.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        model: nn.Module,
        optim: OptimiserFactory,
        schedule: ScheduleFactory | None = None,
        limit_ms: float = 100,
        refractory_ms: int = 200,
        threshold: float = 0.3,
    ) -> None:
        errors = (f"{name}_error_ms" for name in ("r", "q", "s", "qrs"))
        super().__init__(
            *(model, optim, schedule, "loss", "distance", "r_sensitivity", "r_precision"),
            *(*errors, "wide_sensitivity", "wide_precision"),
        )
        check_number("task.limit_ms", limit_ms)
        self.limit = limit_ms / 1000
        self.finder = BeatFinder(model.frame_seconds, refractory_ms, threshold)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        signal, points, is_scored = batch
        return self.train_loss.add_sums(self, *self._terms(self.model(signal), points, is_scored))

    def check(self, batch: Any) -> None:
        """Raise ValueError unless the model scores each point of the data in each frame of a batch."""
        signal, points, _ = batch
        scores = self.model(signal)
        expected = (-(-signal.shape[1] // self.model.stack), len(signal), 1 + points.shape[2])
        if scores.shape != expected:
            raise ValueError(f"the model's scores are {tuple(scores.shape)}, and {expected} are needed")

    def _terms(self, scores: Tensor, points: Tensor, is_scored: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the two means of the loss, each as a sum and what it is divided by."""
        scores = at_least_float32(scores)
        share, distance, is_near, is_known = targets(points, is_scored, len(scores), self.model.frame_seconds)
        share = share.to(scores.dtype)
        entropies = binary_cross_entropy_with_logits(scores[..., 0], share, reduction="none")
        errors = (scores[..., 1:] - distance).abs().mean(dim=-1)
        return (entropies[is_known].sum(), share.sum()), (2 * errors[is_near].sum(), is_near.sum())

    def measure(self, batch: Any, split: str) -> None:
        signal, points, is_scored = batch
        scores = self.model(signal)
        terms = self._terms(scores, points, is_scored)
        for name, (total, count) in zip(("loss", "distance"), terms, strict=True):
            self.means[split].add(name, total, count)
        if not sum_of_means(terms).isfinite():  # a model that diverged has no answers
            return
        rows = zip(scores.transpose(0, 1).float().cpu().numpy(), points.cpu(), is_scored.cpu(), strict=True)
        for row, true, counts in rows:
            is_beat = ~true[:, _R].isnan()
            self._compare(self.finder(row), true[is_beat].numpy(), counts[is_beat].numpy(), split)

    def _compare(self, found: np.ndarray, true: np.ndarray, is_scored: np.ndarray, split: str) -> None:
        """Add the beats of a record to what is reported: found (F, 5), true (K, 5), and which of these count (K,)."""
        pairs = match_beats(found[:, _R], true[:, _R], TOLERANCE)
        is_found, is_right = np.zeros(len(true), dtype=bool), np.zeros(len(found), dtype=bool)
        is_found[pairs[:, 1]], is_right[pairs[:, 0]] = True, True
        counts = np.ones(len(found), dtype=bool)
        counts[pairs[:, 0]] = is_scored[pairs[:, 1]]
        first, second = pairs[is_scored[pairs[:, 1]]].T
        errors = 1000 * (found[first] - true[second])
        wide_found, wide_true = self.is_wide(found), self.is_wide(true)
        is_seen, is_real = np.zeros_like(wide_true), np.zeros_like(wide_found)
        is_seen[pairs[:, 1]], is_real[pairs[:, 0]] = wide_found[pairs[:, 0]], wide_true[pairs[:, 1]]
        values = {
            "r_sensitivity": is_found[is_scored],
            "r_precision": is_right[counts],
            "r_error_ms": np.abs(errors[:, _R]),
            "q_error_ms": np.abs(errors[:, _Q]),
            "s_error_ms": np.abs(errors[:, _S]),
            "qrs_error_ms": np.abs(errors[:, _OFF] - errors[:, _ON]),
            "wide_sensitivity": is_seen[wide_true & is_scored],
            "wide_precision": is_real[wide_found & counts],
        }
        for name, given in values.items():
            if len(given):
                self.means[split].update(**{name: torch.from_numpy(given.astype(np.float64))})

    def report(self, split: str) -> dict[str, Any]:
        values = super().report(split)
        values["loss"] = values["loss"] + values.pop("distance")
        return values

    def is_wide(self, points: np.ndarray) -> np.ndarray:
        """Return whether the QRS of beats (K, 5) is longer than the limit, (K,)."""
        return points[:, _OFF] - points[:, _ON] > self.limit

    def predict_step(self, batch: Any, batch_index: int = 0) -> Delineation:
        """Return the beats of a record that comes in pieces, see `rnnlab.data.ecg.LeadStream`."""
        scores = (part.float().cpu().numpy() for part in self.model.stream(batch.pieces()))
        points = np.concatenate(list(self.finder.stream(scores)))
        return Delineation(points, self.is_wide(points))

    @property
    def delay(self) -> float:
        """Return how long after its R a beat is known, at most, in seconds; infinity unless all layers go onwards.

        Beyond it comes what features look ahead, see `rnnlab.data.ecg_features.Conditioner`.
        """
        if not self.model.streams:
            return float("inf")
        # R may be one frame and a half off the middle of the frame that tells it.
        return (self.finder.ahead + 2) * self.model.frame_seconds + self.model.ahead / self.model.sample_rate

    def beats_of(self, scores: Tensor) -> Delineation:
        """Return the beats of a whole record by the scores of its frames, (T, 1 + P)."""
        points = self.finder(scores.float().cpu().numpy())
        return Delineation(points, self.is_wide(points))


def targets(points: Tensor, is_scored: Tensor, num_frames: int, frame_seconds: float) -> tuple[Tensor, ...]:
    """Return what each frame should tell.

    Args:
        points: seconds, NaN where there is no beat, (B, K, P).
        is_scored: which beats count, bool (B, K).
        num_frames: T.
        frame_seconds: length of a frame.

    Returns:
        How much of an R each frame has, float32 (T, B); how far the points of the nearest beat are from its middle, in
        units of 20 ms, float32 (T, B, P); whether that beat is near enough to be learnt, bool (T, B); and whether it is
        known if there is an R, bool (T, B).
    """
    batch = torch.arange(len(points), device=points.device).unsqueeze(1)
    place = points[:, :, 0] / frame_seconds - 0.5  # R, in frames from the middle of the first one, (B, K)
    below = place.floor()
    share = points.new_zeros(num_frames, len(points), dtype=torch.float32)
    distance = points.new_zeros(num_frames, *points.shape[::2], dtype=torch.float32)
    is_near, is_known = torch.zeros_like(share, dtype=torch.bool), torch.ones_like(share, dtype=torch.bool)
    for step in range(-_BESIDE, 2 + _BESIDE):
        frame = below + step
        is_inside = (frame >= 0) & (frame < num_frames)  # False for NaN
        counts, hidden = is_inside & is_scored, is_inside & ~is_scored
        at, row = frame[counts].long(), batch.expand_as(frame)[counts]
        share[at, row] += (1 - (place - frame).abs())[counts].clamp(min=0).float()
        middle = (frame[counts] + 0.5) * frame_seconds
        distance[at, row] = ((points[counts] - middle.unsqueeze(1)) / UNIT).float()
        is_near[at, row] = True
        is_known[frame[hidden].long(), batch.expand_as(frame)[hidden]] = False
    return share, distance, is_near & is_known, is_known
