"""The layers and directions of `Recurrent` one after the other, with what goes between and around them.

Letters: T time, B batch, I input_size, F features of an output, W width of a state.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnlab.nn.backend import Call, choose
from rnnlab.nn.bidirectional import merge_outputs
from rnnlab.nn.carry import Carrying
from rnnlab.nn.cells.protocol import kind, output_size, recurrent_weights, view, weight_like
from rnnlab.nn.checks import check_hooks
from rnnlab.nn.options import INPUT, OUTPUT, StepClips, Zoneout, drop_weights, variational_dropout, zoneout_rates
from rnnlab.nn.state import autocast_dtype, autocast_to
from rnnlab.nn.unroll import Result, Tensors, hold, unroll
from rnnlab_kernels.schedules.additions import Noise, Walk
from rnnlab_kernels.schedules.layout import zero_padding
from rnnlab_kernels.schedules.noise.masks import draw_seed


class Stack(Carrying):
    """Cells over time; `Recurrent` says what the attributes mean."""

    norms: nn.ModuleList
    num_layers: int
    merge: str
    bidirectional: bool
    batch_first: bool
    residual: bool
    go_backwards: bool
    return_all_states: bool
    zero_output_for_mask: bool
    dropout: float
    input_dropout: float
    output_dropout: float
    recurrent_dropout: float
    candidate_dropout: float
    weight_dropout: float
    clip_grad_step: float | None
    checkpoint_steps: int | None
    backend: str
    zoneout: Zoneout
    step_clips: StepClips
    _state_names: list[tuple[str, ...]]

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
        return self.residual and bool(self.cells[layer * self.num_directions].input_size == self.output_sizes[layer])

    def backend_calls(self, input: Tensor | PackedSequence | None = None, lengths: Any = None) -> list[Call]:
        """Return, for each layer, what the choice of its backend depends on; see `explain_backend`."""
        if isinstance(input, PackedSequence):
            return self._calls(input.data, int(input.batch_sizes[0]), "lengths")
        layout = "padded" if lengths is None else "lengths"
        if input is None:
            like = weight_like(self.cells[0])
            return self._calls(torch.empty(0) if like is None else like, 32, layout)
        return self._calls(input, 1 if input.dim() == 2 else input.shape[0 if self.batch_first else 1], layout)

    def _calls(self, x: Tensor, batch: int, layout: str) -> list[Call]:
        calls: list[Call] = []
        for cell in self.cells[:: self.num_directions]:
            how, why = kind(view(cell)), ""
            if how == "loop":
                why = "states no gate maths"
            elif how == "scan" and self.clip_grad_step is not None:
                how, why = "loop", "clips gradients from step to step (clip_grad_step), which no scan does"
            like = weight_like(cell)
            dtype = x.dtype if like is None else like.dtype
            if how == "chain":
                dtype = autocast_to(autocast_dtype(x.device), torch.empty(0, dtype=dtype)).dtype
            size, name = int(cell.hidden_size), type(cell).__name__  # type: ignore[arg-type]
            call = Call(name, size, 0, x.device, dtype, batch, layout, training=self.training, kind=how, why=why)
            if how == "chain":
                walk = Walk(noise=self._noise(len(calls) * self.num_directions, 0), clip=self.clip_grad_step)
                call = call._replace(chain=view(cell).chain, heads=getattr(cell, "num_heads", 1), walk=walk)
            calls.append(call)
        return calls

    def _run(
        self, x: Tensor, states: Sequence[Tensors], mask: Tensor | None, reset: Tensor | None, layout: str
    ) -> tuple[list[Tensor], list[Tensors], list[Tensors]]:
        """Run all layers.

        Args:
            x: (T, B, I).
            states: initial ones, for each layer and direction.
            mask: (T, B, 1) boolean or None.
            reset: (T, B, 1) boolean or None.
            layout: as in `Call`.

        Returns:
            output (T, B, F), one or, with merge "none", two; final states; and all states if they were asked for.
        """
        for cell in self.cells:
            if kind(view(cell)) != "loop":
                check_hooks(cell, "Recurrent")
        choices = [choose(self.backend, call).backend for call in self._calls(x, x.shape[1], layout)]
        seeds = [draw_seed() if self._is_random else 0 for _ in self.cells]
        collect = self.return_all_states and layout != "step"
        finals: list[Tensors] = []
        every: list[Tensors] = []
        outputs: list[Tensor] = []
        if mask is not None:
            x = zero_padding(x, mask)
        for layer in range(self.num_layers):
            first = layer * self.num_directions
            source = x
            if self.training and self.input_dropout:
                source = variational_dropout(x, self.input_dropout, seeds[first], INPUT)
            outputs = []
            for direction in range(self.num_directions):
                k = first + direction
                reverse = self.go_backwards or direction == 1
                y, final, shown = self._run_one(
                    k, choices[layer], source, states[k], mask, reset, reverse, seeds[k], collect
                )
                outputs.append(y)
                finals.append(final)
                every.append(shown)
            if layer < self.num_layers - 1:
                x = self._between(layer, x, outputs, mask)
        return self._last(x, outputs, mask, seeds[-self.num_directions]), finals, every

    @property
    def _is_random(self) -> bool:
        rates = (
            self.input_dropout,
            self.output_dropout,
            self.recurrent_dropout,
            self.candidate_dropout,
            self.weight_dropout,
            *(p for names in self._state_names for p in zoneout_rates(self.zoneout, names)),
        )
        return self.training and any(rates)

    def _run_one(
        self,
        k: int,
        backend: str,
        x: Tensor,
        state: Tensors,
        mask: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        seed: int | Tensor,
        collect: bool,
    ) -> Result:
        cell = view(self.cells[k])
        if reset is not None and reverse:
            # Nothing passes between t-1 and t, so the walk from the end starts anew before it comes to t-1.
            reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
        weights = None
        if kind(cell) == "chain":
            weights = cell.kernel_weights()
            if self.training and self.weight_dropout:
                weights = drop_weights(weights, recurrent_weights(cell.chain), self.weight_dropout, seed)
        return unroll(
            cell,
            backend,
            x,
            state,
            mask,
            reverse=reverse,
            walk=Walk(reset, self._noise(k, seed), self.clip_grad_step, self.step_clips),
            weights=weights,
            checkpoint_steps=self.checkpoint_steps,
            collect=collect,
        )

    def _noise(self, k: int, seed: int | Tensor) -> Noise | None:
        """Return the random masks inside the steps of cell k."""
        zoneout = zoneout_rates(self.zoneout, self._state_names[k])
        if any(zoneout) or self.training and (self.recurrent_dropout or self.candidate_dropout):
            return Noise(seed, self.recurrent_dropout, self.candidate_dropout, zoneout, self.training)
        return None

    def _between(self, layer: int, x: Tensor, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        """Return what the next layer reads."""
        y = merge_outputs(outputs, self.merge)
        if self._is_residual(layer):
            y = y + x
        if self.norms:
            norm = self.norms[layer]
            if mask is not None and isinstance(norm, nn.BatchNorm1d):
                y = y.masked_scatter(mask, norm(y[mask.squeeze(-1)]))
            else:
                y = norm(y.flatten(0, 1)).view_as(y)
        if self.dropout and self.training:
            y = nn.functional.dropout(y, self.dropout)
        return y if mask is None else zero_padding(y, mask)

    def _last(self, x: Tensor, outputs: list[Tensor], mask: Tensor | None, seed: int | Tensor) -> list[Tensor]:
        """Return the output of the stack, `x` being what the last layer read."""
        if mask is not None and not self.zero_output_for_mask:
            backwards = [self.go_backwards, True][: len(outputs)]
            outputs = [hold(y, mask, torch.zeros_like(y[0]), back) for y, back in zip(outputs, backwards, strict=True)]
            x = hold(x, mask, torch.zeros_like(x[0]), self.go_backwards)
        if self.merge != "none":
            outputs = [merge_outputs(outputs, self.merge)]
        if self._is_residual(self.num_layers - 1):
            outputs = [y + x for y in outputs]
        if self.output_dropout and self.training:
            outputs = [variational_dropout(y, self.output_dropout, seed, OUTPUT) for y in outputs]
        return outputs
