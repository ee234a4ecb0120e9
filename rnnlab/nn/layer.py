"""What the drop-in layers share: forward over padded, packed or single-step input, on any backend.

Letters: T time, B batch, I input_size, H hidden_size, P = proj_size or H, L layers, D directions.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnlab.nn import checks
from rnnlab.nn.backend import Call, choose, run_directions, schedule
from rnnlab.nn.cells.torch_cells import run_cell
from rnnlab.nn.options import INPUT, OUTPUT, Regularisation, Regularisers, StepClips, drop_weights, variational_dropout
from rnnlab.nn.state import autocast_dtype, autocast_to, without_autocast
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.schedules.layout import Weights, lengths_to_mask
from rnnlab_kernels.schedules.noise.masks import draw_seed

Tensors = tuple[Tensor, ...]
Hidden = Tensor | Tensors

_ATEN: dict[str, Callable[..., Tensors]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}


class Layer(nn.RNNBase):
    """What the three layers share. torch's base class keeps parameters, names, initialisation, repr and pickling."""

    backend: str

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
        backend: str,
        regularisers: Regularisers,
    ) -> None:
        checks.check_layer_arguments(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        )
        checks.check_backend_name(backend)
        regularisation = Regularisation.checked(CELLS[mode.lower()], regularisers)
        # Dropout is set afterwards, because torch's constructor would repeat the warning given by the checks.
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, 0.0, bidirectional, proj_size, device, dtype
        )
        self.dropout = float(dropout)
        self.backend = backend
        self.regularisation = regularisation
        self.step_clips = StepClips()

    def flatten_parameters(self) -> None:
        """Do nothing: where cuDNN wants the weights in one buffer, the call that runs on it sees to that."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._is_flat = False  # moving or casting a module scatters its weights
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        backend = "" if self.backend == "auto" else f", backend={self.backend}"
        return super().extra_repr() + backend + self.regularisation.words()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(
            {"backend": "auto", "regularisation": Regularisation(), "step_clips": StepClips(), **state}
        )

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _cell(self) -> Any:
        return CELLS[self.mode.lower()]

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        rows = self.num_layers * self.num_directions
        widths = (self.proj_size or self.hidden_size, self.hidden_size)
        return [(rows, batch, width) for width in widths[: len(self._cell.states)]]

    def _seeds(self) -> list[Any]:
        """Return the seeds of a call's random masks, one a layer and direction."""
        is_random = self.regularisation.is_random(self.training)
        return [draw_seed() if is_random else 0 for _ in range(self.num_layers * self.num_directions)]

    def _weights(self, cast: Callable[[Tensor], Tensor], seeds: list[Any]) -> list[Tensor]:
        """Return the current weights by name: parametrised, tied or replaced ones included, recurrent ones dropped."""
        names, p = self._flat_weights_names, self.regularisation.weight_dropout
        found = {name: cast(getattr(self, name)) for name in names}
        if self.training and p:
            per_run = len(names) // len(seeds)
            for k, seed in enumerate(seeds):
                own = names[k * per_run : (k + 1) * per_run]
                # Those of the products within a step, in the order of `protocol.recurrent_weights`.
                recurrent = [name for name in own if name.startswith(("weight_hh", "weight_hr"))]
                found = drop_weights(found, recurrent, p, seed)
        return list(found.values())

    def initial_state(self, batch_size: int) -> Hidden:
        """Return zeros in the form of `hx`: h_0 (L*D, B, P), for an LSTM with c_0 (L*D, B, H)."""
        weight = getattr(self, self._flat_weights_names[0])
        states = tuple(weight.new_zeros(shape) for shape in self._state_shapes(batch_size))
        return self._as_hidden(states)

    def _as_hidden(self, states: Sequence[Tensor]) -> Hidden:
        return tuple(states) if len(self._cell.states) > 1 else states[0]

    def backend_call(
        self,
        input: Tensor | PackedSequence | None = None,
        lengths: Any = None,
        states: Tensors = (),
        reset: Any = None,
    ) -> Call:
        """Return what the choice of a backend depends on; see `explain_backend`."""
        if isinstance(input, PackedSequence):
            return self._call(input.data, "packed", int(input.batch_sizes[0]), states)
        layout = "padded" if lengths is None else "lengths"
        if input is None:
            return self._call(getattr(self, self._flat_weights_names[0]), layout, 32, states)
        batch = 1 if input.dim() == 2 else input.shape[0 if self.batch_first else 1]
        return self._call(input, layout, batch, states, reset is not None)

    def _call(self, input: Tensor, layout: str, batch: int, states: Tensors, has_reset: bool = False) -> Call:
        weight = getattr(self, self._flat_weights_names[0])
        cast_to = autocast_dtype(input.device)
        dtype = weight.dtype if cast_to is None else autocast_to(cast_to, weight.new_empty(0)).dtype
        differentiated = torch.is_grad_enabled() and (
            any(tensor.requires_grad for tensor in (input, *states))
            or any(getattr(self, name).requires_grad for name in self._flat_weights_names)
        )
        return Call(
            self.mode,
            self.hidden_size,
            self.proj_size,
            input.device,
            dtype,
            batch,
            layout,
            differentiated,
            self.training,
            additions="resets" if has_reset else self.regularisation.inside(self.training),
            chain=as_chain(self._cell, bool(self.proj_size)),
            walk=self.regularisation.walk(0, self.training, None, self.step_clips),
        )

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *, lengths: Any = None, reset: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Hidden]:
        """Run the layers over a batch of sequences.

        Args:
            input: (T, B, I), or (B, T, I) with batch_first, or unbatched (T, I), or a PackedSequence.
            hx: initial state h_0 (L*D, B, P), for an LSTM a tuple (h_0, c_0) with c_0 (L*D, B, H); without B for
                unbatched input; zeros if None.
            lengths: (B,) integers, steps of each row, in any order, zero allowed; a tensor on any device or a sequence
                of ints. Output is zero after each row's end, final states are each row's own, the reverse direction
                starts at each row's own end. None: all rows have T steps.
            reset: boolean (T, B), or (B, T) with batch_first, or (T,) unbatched: a new sequence starts at these steps,
                but not beyond a row's length. States are zero before them; in the reverse direction, before the step
                that precedes them.

        Returns:
            output (T, B, D*P) in the layout of the input, and the final state in the form of `hx`, never batch-first.

        Raises:
            ValueError: wrong number of dimensions, dtype other than the weights', lengths beyond T.
            RuntimeError: wrong sizes or devices, or a backend asked for by name that cannot run the call.
            TypeError: `hx`, `lengths` or `reset` of another form.
        """
        cast_to = autocast_dtype((input.data if isinstance(input, PackedSequence) else input).device)
        if isinstance(input, PackedSequence):
            if lengths is not None or reset is not None:
                raise ValueError("lengths and reset go with padded input; a PackedSequence brings its own lengths")
            return self._forward_packed(input, hx, cast_to)
        return self._forward_padded(input, hx, lengths, reset, cast_to)

    def _forward_padded(
        self, input: Tensor, hx: Any, lengths: Any, reset: Tensor | None, cast_to: torch.dtype | None
    ) -> tuple[Tensor, Hidden]:
        if input.is_nested:
            raise RuntimeError("nested tensors are not supported: pad the batch and pass lengths=")
        if input.dim() not in (2, 3):
            word = " tensor" if self.mode.startswith("RNN") else ""
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {input.dim()}D{word} instead")
        weight = getattr(self, self._flat_weights_names[0])
        checks.check_input_tensor(input, weight, self.input_size, cast_to is not None)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        num_steps, batch = x.shape[:2]
        states = self._states(hx, batch, x, batched, cast_to)
        if num_steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        mask = None
        if lengths is not None:
            if not batched:
                raise ValueError("lengths go with batched input (T, B, I), got an unbatched one")
            mask = lengths_to_mask(checks.check_lengths(lengths, batch, num_steps, input.device), num_steps)

        starts = None
        if reset is not None:
            starts = checks.check_steps("reset", reset, num_steps, batch, batched, self.batch_first, input.device)
            if mask is not None:
                starts = starts & mask
        choice = choose(self.backend, self.backend_call(input, lengths, states, reset))
        with without_autocast(input.device, cast_to):
            x, states = autocast_to(cast_to, x), tuple(autocast_to(cast_to, state) for state in states)
            seeds = self._seeds()
            weights = self._weights(lambda weight: autocast_to(cast_to, weight), seeds)
            if choice.backend == "aten" and mask is None:
                output, states = self._aten(x, states, weights, is_cast=cast_to is not None)
            else:
                output, states = self._stack(schedule(choice.backend), x, states, weights, seeds, mask, starts)
        if not batched:
            return output.squeeze(1), self._as_hidden([state.squeeze(1) for state in states])
        return output.transpose(0, 1) if self.batch_first else output, self._as_hidden(states)

    def _states(self, hx: Any, batch: int, x: Tensor, batched: bool, cast_to: torch.dtype | None) -> Tensors:
        """Return the checked initial states, each (L*D, B, width)."""
        shapes = self._state_shapes(batch)
        if hx is None:
            return tuple(x.new_zeros(shape) for shape in shapes)
        weight = getattr(self, self._flat_weights_names[0])
        states = checks.split_states(hx, len(shapes), self._get_name())
        checks.check_state_rank(states, batched)
        if not batched:
            states = tuple(state.unsqueeze(1) for state in states)
        checks.check_states(states, shapes, x, weight, cast_to is not None)
        return states

    def _forward_packed(
        self, input: PackedSequence, hx: Any, cast_to: torch.dtype | None
    ) -> tuple[PackedSequence, Hidden]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        if data.dim() != 2:
            raise ValueError(f"{self._get_name()}: Expected packed data to be 2D, got {data.dim()}D instead")
        weight = getattr(self, self._flat_weights_names[0])
        checks.check_input_tensor(data, weight, self.input_size, cast_to is not None)
        if int(batch_sizes.sum()) != data.shape[0]:
            raise RuntimeError(
                f"the PackedSequence holds {data.shape[0]} steps but its batch_sizes add up to "
                f"{int(batch_sizes.sum())}: a length was larger than the padded sequence"
            )
        states = self._states(hx, int(batch_sizes[0]), data, True, cast_to)
        choice = choose(self.backend, self.backend_call(input, states=states))
        with without_autocast(data.device, cast_to):
            data, states = autocast_to(cast_to, data), tuple(autocast_to(cast_to, state) for state in states)
            seeds = self._seeds()
            weights = self._weights(lambda weight: autocast_to(cast_to, weight), seeds)
            if sorted_indices is not None:
                states = tuple(state.index_select(1, sorted_indices) for state in states)
            if choice.backend == "aten":
                output, states = self._aten(data, states, weights, batch_sizes, is_cast=cast_to is not None)
            else:
                x, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
                mask = lengths_to_mask(lengths.to(data.device), x.shape[0])
                padded, states = self._stack(schedule(choice.backend), x, states, weights, seeds, mask)
                output = pack_padded_sequence(padded, lengths).data
            if unsorted_indices is not None:
                states = tuple(state.index_select(1, unsorted_indices) for state in states)
        return PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices), self._as_hidden(states)

    def _aten(
        self,
        x: Tensor,
        states: Tensors,
        weights: list[Tensor],
        batch_sizes: Tensor | None = None,
        is_cast: bool = False,
    ) -> tuple[Tensor, Tensors]:
        if x.is_cuda and is_cast:  # autocast's copies are packed at each call, as torch's own autocast does, unasked
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
                return self._aten(x, states, weights, batch_sizes)
        if x.is_cuda and not getattr(self, "_is_flat", False):
            super().flatten_parameters()
            self._is_flat = True
        hx: Any = list(states) if self.mode == "LSTM" else states[0]
        options = (self.bias, self.num_layers, self.dropout, self.training, bool(self.bidirectional))
        if batch_sizes is None:
            output, *states_n = _ATEN[self.mode](x, hx, weights, *options, False)
        else:
            output, *states_n = _ATEN[self.mode](x, batch_sizes, hx, weights, *options)
        return output, tuple(states_n)

    def _stack(
        self,
        run: Callable[..., tuple[Tensor, Tensors]],
        x: Tensor,
        states: Tensors,
        weights: list[Tensor],
        seeds: list[Any],
        mask: Tensor | None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, Tensors]:
        """Run layers and directions one by one, with dropout between the layers."""
        options, training = self.regularisation, self.training
        per_run = len(weights) // len(seeds)
        finals: list[Tensors] = []
        for layer in range(self.num_layers):
            outputs = []
            source = x
            if training and options.input_dropout:
                source = variational_dropout(x, options.input_dropout, seeds[layer * self.num_directions], INPUT)
            calls = []
            for direction in range(self.num_directions):
                k, starts = layer * self.num_directions + direction, reset
                if reset is not None and direction == 1:
                    # Nothing passes between t-1 and t, so the walk from the end starts anew before it comes to t-1.
                    starts = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
                own = self._grouped(weights[k * per_run : (k + 1) * per_run])
                walk = options.walk(seeds[k], training, starts, self.step_clips)
                calls.append((tuple(s[k] for s in states), own, walk))
            for y, final in run_directions(run, self._cell, source, mask, calls):
                outputs.append(y)
                finals.append(final)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
            if self.dropout and training and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout)
        if training and options.output_dropout:
            x = variational_dropout(x, options.output_dropout, seeds[-self.num_directions], OUTPUT)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _grouped(self, own: list[Tensor]) -> Weights:
        weight_ih, weight_hh, *rest = own
        weight_hr = rest.pop() if self.proj_size else None
        bias_ih, bias_hh = rest or (None, None)
        return Weights(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr)

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Hidden]:
        """Advance by one time step; T calls equal one call of the layer on T steps, but for masks, drawn in each call.

        Args:
            x_t: (B, I) or unbatched (I,).
            state: in the form of `hx`; zeros if None.

        Returns:
            output (B, P) or (P,), and the new state.

        Raises:
            ValueError: the layer is bidirectional, or `x_t` is not 1-D or 2-D.
            RuntimeError: as `forward`; or the layer has a hook before its forward.
        """
        checks.check_hooks(self, "step")
        if self.bidirectional:
            raise ValueError("a bidirectional layer cannot run step by step: its reverse direction starts at the end")
        if x_t.dim() not in (1, 2):
            raise ValueError(f"{self._get_name()}.step: Expected input to be 1D or 2D, got {x_t.dim()}D instead")
        batched = x_t.dim() == 2
        x = x_t if batched else x_t.unsqueeze(0)
        cast_to = autocast_dtype(x.device)
        weight = getattr(self, self._flat_weights_names[0])
        checks.check_input_tensor(x, weight, self.input_size, cast_to is not None)
        states = self._states(state, x.shape[0], x, batched, cast_to)
        seeds = self._seeds()
        weights = self._weights(lambda weight: autocast_to(cast_to, weight), seeds)
        per_layer = len(weights) // self.num_layers
        choice = choose(self.backend, self._call(x, "step", x.shape[0], states))
        with without_autocast(x.device, cast_to):
            x, states = autocast_to(cast_to, x), tuple(autocast_to(cast_to, part) for part in states)
            if choice.backend == "aten":
                finals = []
                for layer in range(self.num_layers):
                    own = self._grouped(weights[layer * per_layer : (layer + 1) * per_layer])
                    final = run_cell(choice, self.mode, x, tuple(part[layer] for part in states), own)
                    finals.append(final)
                    x = final[0]
                    if self.dropout and self.training and layer < self.num_layers - 1:
                        x = nn.functional.dropout(x, self.dropout)
                states = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
            else:
                output, states = self._stack(schedule(choice.backend), x.unsqueeze(0), states, weights, seeds, None)
                x = output[0]
        if not batched:
            return x.squeeze(0), self._as_hidden([part.squeeze(1) for part in states])
        return x, self._as_hidden(states)
