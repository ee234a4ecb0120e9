"""How large the gradients are, and how often clipping changes them."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from rnnlab.nn.options import StepClips

_FLUSH_AFTER = 1000  # updates; bounds the memory of a long epoch


class ClipRate(pl.Callback):
    """Log the mean gradient norm and the clip rate of every epoch, as 'train/grad_norm' and 'train/clip_rate'.

    Both are means over the epoch's updates. The norm is that of all gradients together, before clipping and after
    accumulation. The clip rate is the share of updates whose norm was above `trainer.gradient_clip_val`; with
    `trainer.gradient_clip_algorithm=value`, the share of gradient elements beyond it; without clipping, 0. Updates that
    a loss scaler skips, because gradients overflowed in float16, do not count.

    Where layers clip gradients between steps (`clip_grad_step`), 'train/step_clip_rate' is the share of elements beyond
    their limits, over all backward passes of the epoch.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        # Per update, only what has to be done before the gradients change; the rest is done for many updates at once.
        self._norms: list[Tensor] = []
        self._shares: list[Tensor] = []
        self._sums: Tensor | float = 0.0  # of norm, clip rate and 1 over the flushed updates, float64 (3,)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start()
        _take_step_clips(pl_module)  # what came before the epoch

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        # Lightning clips right after this hook.
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = get_total_norm(gradients)
        if getattr(optimizer, "_step_supports_amp_scaling", False) and scaler_of(trainer) is not None:
            norm = norm / scaler_of(trainer).get_scale()  # a fused optimiser undoes the scaling itself, later
        self._norms.append(norm)
        if _clips_values(trainer):
            self._shares.append(_share_beyond(gradients, trainer.gradient_clip_val))
        if len(self._norms) == _FLUSH_AFTER:
            self._flush(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        # The end of the epoch would be too late: the ledger, an earlier callback, reads the metrics then.
        if not trainer.is_last_batch:
            return
        self._flush(trainer)
        if isinstance(self._sums, Tensor):
            norm, rate, count = self._sums.unbind()
            means = {"train/grad_norm": norm / count, "train/clip_rate": rate / count}
            clips = torch.tensor(_take_step_clips(pl_module), dtype=torch.float64, device=pl_module.device)
            beyond, number = trainer.strategy.reduce(clips, reduce_op="sum").tolist()
            if number:
                means["train/step_clip_rate"] = torch.tensor(beyond / number)
            pl_module.log_dict(means, on_step=False, on_epoch=True, batch_size=1)

    def _flush(self, trainer: pl.Trainer) -> None:
        """Add the updates seen since the last flush to the sums."""
        if not self._norms:
            return
        norms = torch.stack(self._norms)
        if _clips_values(trainer):
            rates = torch.stack(self._shares)
        else:
            limit = trainer.gradient_clip_val
            rates = norms > limit if limit else torch.zeros_like(norms)
        updates = torch.stack([norms, rates.to(norms.dtype), torch.ones_like(norms)]).double()
        if scaler_of(trainer) is not None:
            updates = torch.where(norms.isfinite(), updates, 0.0)
        self._sums = self._sums + updates.sum(dim=1)
        self._norms, self._shares = [], []


def scaler_of(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    """Return the loss scaler of float16 training, if there is one."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _clips_values(trainer: pl.Trainer) -> bool:
    return bool(trainer.gradient_clip_val) and trainer.gradient_clip_algorithm == GradClipAlgorithmType.VALUE


def _take_step_clips(module: torch.nn.Module) -> tuple[int, int]:
    """Return how many elements of gradients between steps were beyond their limit, and how many there were."""
    counters = (getattr(part, "step_clips", None) for part in module.modules())
    taken = [counter.take() for counter in counters if isinstance(counter, StepClips)]
    return sum(beyond for beyond, _ in taken), sum(number for _, number in taken)


def _share_beyond(gradients: list[Tensor], limit: float) -> Tensor:
    """Return the share of all elements whose magnitude is above the limit, float32 scalar."""
    beyond = torch.stack([torch.count_nonzero(gradient.abs() > limit) for gradient in gradients]).sum()
    return beyond / sum(gradient.numel() for gradient in gradients)
