"""How gradients flow back through the recurrent layers while a run trains: a picture, and the numbers in it.

Letters: T time, B batch, H hidden_size, P width of what R multiplies.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from rnnlab.callbacks.clip_rate import scaler_of
from rnnlab.callbacks.figures import run_name, save_figure
from rnnlab.callbacks.files import write_atomically
from rnnlab.nn.backend import choose
from rnnlab.nn.init import keeping_gate
from rnnlab.nn.recording import Flow, Recordable, Recording

FILE = "gradient_flow.csv"
_GATES = ("i", "f", "o", "r", "z")  # those between 0 and 1
_CLOSED, _OPEN = 0.05, 0.95


class Number(NamedTuple):
    """A row of gradient_flow.csv.

    Attributes:
        epoch: counted from 0.
        layer: 'rnn, layer 1' or 'rnn, layer 1, backwards'; empty for what is of the whole run.
        kind: 'state' and 'gate', norms over the batch by step, of the gradients of the batch's own loss, whatever
            `trainer.accumulate_grad_batches` and a loss scaler make of it; 'direct', the share of the squared gradient
            that goes back element by element, by step; 'closed' and 'open', the share of a gate's activations below
            0.05 and above 0.95; 'time_constant', steps after which 1/e is kept of a state, by quantile of the units,
            at most 1e6; 'largest_singular_value' of the block (H, P) of R of a gate, and 'spectral_radius' where it is
            square; 'clip_rate'.
        name: of the state, gate or quantile.
        back: steps before the last one of the batch; None where there is one number for all.
        value: the number.
    """

    epoch: int
    layer: str
    kind: str
    name: str
    back: int | None
    value: float


class GradientFlow(pl.Callback):
    """Record the first training batch of every epoch, as `rnnlab.nn.LSTM.record` does, and draw what it tells.

    gradient_flow.csv has a row for each number, see `Number`; figures/gradient_flow.png is drawn from it when the run
    ends, and by `rnnlab diagnose`. Of a layer that is called several times in a step the last call counts, of one in
    windows all of them. Nothing that is trained changes but by rounding: while it is recorded, a layer runs on a
    backend that records.

    Args:
        every_epochs: epochs from one recorded batch to the next.

    Raises:
        ValueError: `every_epochs` is no positive integer.
    """

    shares = False  # with other processes: it would record the rows of one alone

    def __init__(self, every_epochs: int = 1) -> None:
        if not isinstance(every_epochs, int) or isinstance(every_epochs, bool) or every_epochs < 1:
            raise ValueError(f"every_epochs must be a positive integer, got {every_epochs!r}")
        self.every_epochs = every_epochs
        self.rows: list[Number] = []
        self._open: ExitStack | None = None
        self._recordings: dict[str, tuple[Any, Recording]] = {}

    def check_task(self, task: pl.LightningModule) -> None:
        """Raise ValueError where a layer's backend, asked for by name, records nothing."""
        for name, module in layers_of(task):
            with module.record():
                calls = module.backend_calls() if hasattr(module, "backend_calls") else [module.backend_call()]
                try:
                    for call in calls:
                        choose(module.backend, call)
                except RuntimeError as error:
                    raise ValueError(f"{name}: {error}") from error

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx or trainer.current_epoch % self.every_epochs:
            return
        self._open, self._recordings = ExitStack(), {}
        for name, module in layers_of(pl_module):
            self._recordings[name] = (module, self._open.enter_context(module.record(values=True)))

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._open is None:
            return
        self._open.close()
        self._open = None
        share = _share_of_loss(trainer)
        for name, (module, recording) in self._recordings.items():
            for k in range(len(recording)):
                self.rows += _numbers(trainer.current_epoch, _side(name, module, k), module, k, recording, share)
        self._recordings = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rate = trainer.callback_metrics.get("train/clip_rate")
        if rate is not None:
            self.rows.append(Number(trainer.current_epoch, "", "clip_rate", "", None, float(rate)))
        if self.rows:
            _write(Path(trainer.default_root_dir) / FILE, self.rows)

    def on_epoch_dropped(self, trainer: pl.Trainer, step: int) -> None:
        _write(Path(trainer.default_root_dir) / FILE, self.rows)

    def on_run_end(self, trainer: pl.Trainer, task: pl.LightningModule, metrics: dict[str, float]) -> None:
        from rnnlab.analysis.gradient_flow import gradient_flow

        if any(row.layer for row in self.rows):
            save_figure(trainer, "gradient_flow", gradient_flow(self.rows, f"Gradient flow of {run_name(trainer)}"))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [tuple(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [Number(*row) for row in state_dict["rows"]]


class _OfABatch(GradientFlow):
    """Keeps its numbers to itself."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pass


def record_batch(
    trainer: pl.Trainer, task: pl.LightningModule, data: pl.LightningDataModule, epoch: int
) -> list[Number]:
    """Return the numbers of the first training batch of an epoch, for the task as it is; no weight is changed.

    Args:
        trainer: of one training batch and no validation, without callbacks.

    Raises:
        ValueError: a layer's backend, asked for by name, records nothing.
    """
    callback = _OfABatch()
    callback.check_task(task)
    trainer.callbacks.append(callback)
    trainer.fit_loop.epoch_progress.current.processed = epoch  # which decides what some data draw
    trainer.fit_loop.max_epochs = epoch + 1
    task.optim, task.schedule = partial(torch.optim.SGD, lr=0.0), None
    trainer.fit(task, datamodule=data)
    return callback.rows


def read_numbers(path: Path) -> list[Number]:
    """Return the rows of a gradient_flow.csv.

    Raises:
        ValueError: it is none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != Number._fields:
            raise ValueError(f"{path}: expected the columns {', '.join(Number._fields)}")
        try:
            return [Number(int(e), *words, int(b) if b else None, float(v)) for e, *words, b, v in reader]
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{reader.line_num}: {error}") from error


def _write(path: Path, rows: list[Number]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Number._fields)
    for row in rows:
        writer.writerow([*row[:4], "" if row.back is None else row.back, f"{row.value:.6g}"])
    write_atomically(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))


def layers_of(task: pl.LightningModule) -> Iterator[tuple[str, Any]]:
    """Yield name and module of each recurrent layer."""
    for name, module in task.named_modules():
        if isinstance(module, Recordable):
            yield name.removeprefix("model."), module


def _side(name: str, module: Any, k: int) -> str:
    layer, direction = divmod(k, module.num_directions)
    return f"{name}, layer {layer + 1}{', backwards' if direction else ''}"


def _share_of_loss(trainer: pl.Trainer) -> float:
    """Return what the loss of a batch was multiplied with before its backward pass."""
    scaler = scaler_of(trainer)
    return (1.0 if scaler is None else scaler.get_scale()) / trainer.accumulate_grad_batches


def _numbers(epoch: int, side: str, module: Any, k: int, recording: Recording, share: float = 1.0) -> Iterator[Number]:
    try:
        flow = recording[k]
    except RuntimeError:  # nothing came back through it
        return
    if not flow.state:
        return
    kinds = ("state", "gate")
    series = [(kind, name, norms / share) for kind in kinds for name, norms in flow.over_batch(kind).items()]
    if flow.direct or flow.recurrent:
        series.append(("direct", "", flow.direct_share()))
    for kind, name, values in series:
        for back, value in enumerate(values.flip(0).tolist()):
            yield Number(epoch, side, kind, name, back, value)
    for kind, name, value in [*_of_gates(flow, module, k), *_of_weights(module, k)]:
        yield Number(epoch, side, kind, name, None, value)


def _of_gates(flow: Flow, module: Any, k: int) -> Iterator[tuple[str, str, float]]:
    """Yield the saturation of gates and the time constants of the states they keep."""
    reached = torch.stack(list(flow.state.values())).sum(0) > 0  # (T, B), not beyond a row's end
    values, kept = _activated(flow, module, k)
    for name, gate in values.items():
        if name in _GATES:
            gate = gate[reached].float()  # (rows, H)
            yield "closed", name, float((gate < _CLOSED).float().mean())
            yield "open", name, float((gate > _OPEN).float().mean())
    if kept is not None and reached.any():
        # Of a state f_1 f_2 ... f_n is kept, so logarithms have a mean; those of 0 and of nothing but 1 are none.
        logs = kept[reached].double().clamp(min=torch.finfo(torch.float32).tiny).log()
        constants = -1 / logs.mean(0).clamp(max=-1e-6)
        for quantile in (0.1, 0.5, 0.9):
            yield "time_constant", f"{quantile:g}", float(constants.quantile(quantile))


def _activated(flow: Flow, module: Any, k: int) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the activated gates (T, B, H) by name, and what a state before is multiplied with, if a gate says so."""
    values = flow.values
    if {"q_f", "q_i"} <= values.keys():  # a minLSTM keeps shares in place of f and i, see its gate maths
        q_f, q_i = values["q_f"].double(), values["q_i"].double()
        rest = (0.5 * (1 - q_f - q_i)).clamp(min=1e-9)
        return {"f": rest / (rest + q_f), "i": rest / (rest + q_i)}, 0.5 * (1 + q_i - q_f)
    keeping = keeping_gate(module if hasattr(module, "mode") else module.cells[k])
    if keeping is None or keeping[0] not in values:
        return values, None
    name, sign = keeping
    return values, values[name] if sign > 0 else 1 - values[name]


def _of_weights(module: Any, k: int) -> Iterator[tuple[str, str, float]]:
    """Yield spectral radius, where it is square, and largest singular value of the block of R of each gate.

    Of several heads R is block-diagonal: the largest of its heads.
    """
    layer, direction = divmod(k, module.num_directions)
    if hasattr(module, "mode"):
        owner, weight = module, getattr(module, f"weight_hh_l{layer}{'_reverse' if direction else ''}")
    else:
        owner, weight = module.cells[k], getattr(module.cells[k], "weight_hh", None)
    if weight is None or weight.dim() != 2:
        return
    names = _blocks(owner, len(weight))
    if not names or len(weight) % len(names):
        return
    for name, block in zip(names, weight.detach().double().cpu().chunk(len(names)), strict=True):
        heads = block.unflatten(0, (getattr(owner, "num_heads", 1), -1))
        if heads.shape[1] == heads.shape[2]:
            yield "spectral_radius", name, float(torch.linalg.eigvals(heads).abs().max())
        yield "largest_singular_value", name, float(torch.linalg.matrix_norm(heads, 2).max())


def _blocks(owner: Any, rows: int) -> tuple[str, ...]:
    """Return the names of the blocks of R of a layer or cell, below each other and of as many rows each: H, mostly."""
    if hasattr(owner, "mode"):
        return {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}.get(owner.mode, ("h",))
    taps = getattr(owner, "output_taps", 1)  # of a NARX cell, which has R_1 ... R_q of its one gate
    if taps > 1:
        return tuple(f"R_{j}" for j in range(1, taps + 1))
    gates = getattr(owner, "gates", None)
    return tuple(map(str, range(rows // owner.hidden_size))) if gates is None else tuple(gates)
