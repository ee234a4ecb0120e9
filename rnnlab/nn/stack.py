"""Layers and directions one after the other, with what goes between and around them: torch's layers and `Recurrent`.

Letters: T time, B batch, I input_size, F features of an output, W width of a state.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnlab.nn.backend import Call, choose, is_torchs_step
from rnnlab.nn.bidirectional import merge_outputs
from rnnlab.nn.carry import Carrying
from rnnlab.nn.cells.protocol import kind, output_size, recurrent_weights, view, walked_chain, weight_like
from rnnlab.nn.checks import check_hooks
from rnnlab.nn.options import (
    INPUT,
    NOTHING,
    OUTPUT,
    Regularisation,
    StepClips,
    Zoneout,
    drop_weights,
    variational_dropout,
    zoneout_rates,
)
from rnnlab.nn.recording import Recordable, recorded
from rnnlab.nn.state import autocast_dtype, autocast_to
from rnnlab.nn.unroll import Result, Side, Tensors, hold, run_directions, run_step
from rnnlab_kernels.schedules.additions import PLAIN
from rnnlab_kernels.schedules.layout import lengths_to_mask, zero_padding
from rnnlab_kernels.schedules.noise.masks import draw_seed


class Stack(Recordable):
    """How `Layer` and `Recurrent` run; `Recurrent` says what the attributes mean."""

    training: bool
    num_layers: int
    num_directions: int
    dropout: float
    # What the drop-in layers are without.
    merge: str = "concat"
    residual: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = True
    checkpoint_steps: int | None = None

    def _run(
        self,
        x: Tensor,
        sides: Sequence[Side],
        options: Regularisation,
        mask: Tensor | None,
        reset: Tensor | None,
        collect: bool = False,
        is_step: bool = False,
    ) -> tuple[list[Tensor], list[Result]]:
        """Run all layers.

        Args:
            x: (T, B, I).
            sides: for each layer, its one or two directions.
            options: what is dropped before and behind the recurrences.
            mask: (T, B, 1) boolean or None.
            reset: (T, B, 1) boolean or None.
            collect: ask for all states.
            is_step: say that T = 1 is one of several calls.

        Returns:
            output (T, B, F), one or, with merge "none", two; and what each layer and direction gave.
        """
        if self.recording is not None:
            sides = recorded(self.recording, sides, x, is_step)
        results: list[Result] = []
        outputs: list[Tensor] = []
        for layer in range(self.num_layers):
            here = sides[len(results) : len(results) + self.num_directions]
            source = x
            if self.training and options.input_dropout:
                source = variational_dropout(x, options.input_dropout, here[0].seed, INPUT)
            found = run_directions(here, source, mask, reset, self.checkpoint_steps, collect)
            results += found
            outputs = list(next(zip(*found, strict=True)))
            if layer < self.num_layers - 1:
                x = self._between(layer, x, outputs, mask)
        outputs = self._last(x, outputs, mask)
        if self.training and options.output_dropout:
            seed = sides[-self.num_directions].seed
            outputs = [variational_dropout(y, options.output_dropout, seed, OUTPUT) for y in outputs]
        return outputs, results

    def _is_residual(self, layer: int) -> bool:
        return False

    def _norm_behind(self, layer: int) -> nn.Module | None:
        return None

    def _between(self, layer: int, x: Tensor, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        """Return what the next layer reads, zero outside the mask."""
        y = merge_outputs(outputs, self.merge)
        if self.residual and self._is_residual(layer):
            y = y + x
        norm = self._norm_behind(layer)
        if norm is not None:
            if mask is not None and isinstance(norm, nn.BatchNorm1d):
                y = y.masked_scatter(mask, norm(y[mask.squeeze(-1)]))
            else:
                y = norm(y.flatten(0, 1)).view_as(y)
                y = y if mask is None else zero_padding(y, mask)
        return nn.functional.dropout(y, self.dropout) if self.dropout and self.training else y

    def _last(self, x: Tensor, outputs: list[Tensor], mask: Tensor | None) -> list[Tensor]:
        """Return the output of the stack, `x` being what the last layer read."""
        if mask is not None and not self.zero_output_for_mask:
            backwards = [self.go_backwards, True][: len(outputs)]
            outputs = [hold(y, mask, torch.zeros_like(y[0]), back) for y, back in zip(outputs, backwards, strict=True)]
            x = hold(x, mask, torch.zeros_like(x[0]), self.go_backwards)
        if self.merge != "none" and len(outputs) == 2:
            outputs = [merge_outputs(outputs, self.merge)]
        return [y + x for y in outputs] if self.residual and self._is_residual(self.num_layers - 1) else outputs


class CellStack(Stack, Carrying):
    """Cells over time; `Recurrent` says what the attributes mean."""

    norm: str | None
    norms: nn.ModuleList
    bidirectional: bool
    batch_first: bool
    return_all_states: bool
    input_dropout: float
    output_dropout: float
    recurrent_dropout: float
    candidate_dropout: float
    weight_dropout: float
    zoneout: Zoneout
    clip_grad_step: float | None
    backend: str
    step_clips: StepClips
    _state_names: list[tuple[str, ...]]
    _given: tuple[Any, ...] = ()

    @property
    def input_size(self) -> int:
        """I."""
        return int(self.cells[0].input_size)  # type: ignore[arg-type]

    @property
    def output_sizes(self) -> list[int]:
        """Features of each layer's output; with merge "none", of both outputs together."""
        factor = self.num_directions if self.merge in ("concat", "none") else 1
        return [output_size(cell) * factor for cell in self.cells[:: self.num_directions]]

    def _is_residual(self, layer: int) -> bool:
        return bool(self.cells[layer * self.num_directions].input_size == self.output_sizes[layer])

    def _norm_behind(self, layer: int) -> nn.Module | None:
        return self.norms[layer] if self.norms else None

    @property
    def _options(self) -> list[Regularisation]:
        """What is added to each cell; made again where an attribute that says so has changed."""
        rates = self.input_dropout, self.output_dropout, self.recurrent_dropout, self.candidate_dropout
        given = (*rates, self.weight_dropout, self.zoneout, self.clip_grad_step)
        if given != self._given:
            zoneouts = [zoneout_rates(self.zoneout, names) for names in self._state_names]
            self._made = [
                Regularisation(*given[:5], zoneout if any(zoneout) else (), self.clip_grad_step) for zoneout in zoneouts
            ]
            self._given = (*given[:5], copy.copy(self.zoneout), self.clip_grad_step)
        return self._made

    def backend_calls(self, input: Tensor | PackedSequence | None = None, lengths: Any = None) -> list[Call]:
        """Return, for each layer, what the choice of its backend depends on; see `explain_backend`."""
        layout = "padded" if lengths is None else "lengths"
        if isinstance(input, PackedSequence):
            x, batch, layout = input.data, int(input.batch_sizes[0]), "lengths"
        elif input is None:
            like = weight_like(self.cells[0])
            x, batch = torch.empty(0) if like is None else like, 32
        else:
            x, batch = input, 1 if input.dim() == 2 else input.shape[0 if self.batch_first else 1]
        firsts = range(0, len(self.cells), self.num_directions)
        return [
            self._call(self.cells[k], *kind(view(self.cells[k])), self._options[k], x, batch, layout) for k in firsts
        ]

    def _call(
        self, module: nn.Module, how: str, chain: Any, options: Regularisation, x: Tensor, batch: int, layout: str
    ) -> Call:
        """Return what the choice of a backend depends on for a layer that starts with a cell."""
        why = ""
        if how == "loop":
            why = "states no gate maths"
        elif how == "scan" and self.clip_grad_step is not None:
            how, why = "loop", "clips gradients from step to step (clip_grad_step), which no scan does"
        like = weight_like(module)
        dtype = x.dtype if like is None else like.dtype
        additions = PLAIN if options == NOTHING else options.additions(0, self.training, self.step_clips)
        if self.recording is not None:
            additions = additions._replace(recorder=self.recording)
        if chain is not None and (cast_to := autocast_dtype(x.device)) is not None:
            dtype = autocast_to(cast_to, torch.empty(0, dtype=dtype)).dtype
        return Call(
            type(module).__name__,
            int(module.hidden_size),  # type: ignore[arg-type]
            0,
            x.device,
            dtype,
            batch,
            layout,
            training=self.training,
            kind=how,
            why=why,
            chain=chain,
            heads=getattr(module, "num_heads", 1),
            additions=additions,
            walked=walked_chain(type(module)) if how == "scan" else None,
        )

    def _plain_step(
        self, cells: Sequence[nn.Module], x: Tensor, states: Sequence[Tensors], options: Sequence[Regularisation]
    ) -> tuple[Tensor, list[Tensors]] | None:
        """Return what `_run` gives for one step on x (B, I), output and new states, where nothing is added to cells.

        So little is computed that what else is done decides: hence no `Side` and no time axis. None where something
        is added, stands between layers, or takes another backend.
        """
        between = self.norm is not None or self.residual or self.dropout and self.training
        if between or self.backend not in ("auto", "reference") or self.checkpoint_steps is not None:
            return None
        if self.recording is not None and torch.is_grad_enabled():
            return None
        if autocast_dtype(x.device) is not None:
            return None
        for k, cell in enumerate(cells):
            if options[k] != NOTHING or cell._forward_pre_hooks:
                return None
        by_torch, finals = is_torchs_step(self.backend, is_plain=True), []
        for k, cell in enumerate(cells):
            x, state = run_step(view(cell), x, states[k], by_torch)
            finals.append(state)
        return x.clone(), finals

    def _sides(
        self, x: Tensor, states: Sequence[Tensors], options: Sequence[Regularisation], layout: str
    ) -> list[Side]:
        """Return each layer and direction, ready to run from these states."""
        training, backend, is_random = self.training, "", False
        for each in options if training else ():
            is_random = is_random or each != NOTHING and each.is_random(True)
        sides: list[Side] = []
        for k, (module, state) in enumerate(zip(self.cells, states, strict=True)):
            cell, weights, seed = view(module), None, draw_seed() if is_random else 0
            how, chain = kind(cell)
            additions = PLAIN if options[k] == NOTHING else options[k].additions(seed, training, self.step_clips)
            if k % self.num_directions == 0:
                call = self._call(module, how, chain, options[k], x, x.shape[1], layout)
                backend = choose(self.backend, call).backend
            if module._forward_pre_hooks and how != "loop":
                check_hooks(module, "Recurrent")
            if chain is not None:
                weights = cell.kernel_weights()
                if training and self.weight_dropout:
                    weights = drop_weights(weights, recurrent_weights(chain), self.weight_dropout, seed)
            reverse = self.go_backwards or k % self.num_directions == 1
            sides.append(Side(cell, how, backend, tuple(state), chain, weights, additions, reverse, seed))
        return sides


def unpacked(packed: PackedSequence) -> tuple[Tensor, Tensor, Tensor]:
    """Return a PackedSequence as (T, B, I), with its lengths (B,) and their mask (T, B, 1)."""
    x, lengths = pad_packed_sequence(packed)
    return x, lengths, lengths_to_mask(lengths.to(x.device), len(x))


def packed_as(packed: PackedSequence, output: Tensor, lengths: Tensor) -> PackedSequence:
    """Return an output (T, B, F) in the form of a PackedSequence whose `unpacked` has these lengths."""
    if packed.sorted_indices is not None:
        output = output.index_select(1, packed.sorted_indices)
        lengths = lengths[packed.sorted_indices.cpu()]
    return packed._replace(data=pack_padded_sequence(output, lengths).data)
