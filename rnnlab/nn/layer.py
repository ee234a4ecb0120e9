"""What the drop-in layers share: forward over padded, packed or single-step input, on any backend.

Letters: T time, B batch, I input_size, H hidden_size, P = proj_size or H, L layers, D directions.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnlab.nn import checks
from rnnlab.nn.backend import Call, choose, is_torchs_step
from rnnlab.nn.cells.protocol import ChainView, recurrent_weights
from rnnlab.nn.options import NOTHING, Regularisation, Regularisers, StepClips, drop_weights
from rnnlab.nn.stack import Stack, packed_as, unpacked
from rnnlab.nn.state import attributes, autocast_dtype, autocast_to, without_autocast
from rnnlab.nn.unroll import Side
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.cells.chain import as_chain
from rnnlab_kernels.schedules.additions import PLAIN
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.library.aten import stacked_step
from rnnlab_kernels.schedules.noise.masks import draw_seed

Tensors = tuple[Tensor, ...]
Hidden = Tensor | Tensors

_ATEN: dict[str, Callable[..., Tensors]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}
_VIEWS = {
    (mode, projects): ChainView(as_chain(CELLS[mode.lower()], projects))
    for mode in _ATEN
    for projects in ((False, True) if mode == "LSTM" else (False,))
}


class Layer(Stack, nn.RNNBase):
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
    def num_directions(self) -> int:  # type: ignore[override]
        return 2 if self.bidirectional else 1

    @property
    def _view(self) -> ChainView:
        return _VIEWS[self.mode, bool(self.proj_size)]

    @property
    def _names(self) -> list[str]:
        """What the weights of a layer and direction are called by schedules, in the order of `_flat_weights_names`."""
        biases, projection = ["bias_ih", "bias_hh"] if self.bias else [], ["hr"] if self.proj_size else []
        return ["ih", "hh", *biases, *projection]

    def _seeds(self) -> list[int | Tensor]:
        """Return the seeds of a call's random masks, one a layer and direction."""
        runs = 2 * self.num_layers if self.bidirectional else self.num_layers
        options = self.regularisation
        is_random = options != NOTHING and options.is_random(self.training)
        return [draw_seed() for _ in range(runs)] if is_random else [0] * runs

    def _weights(self, device: torch.device, cast_to: torch.dtype | None) -> list[Tensor]:
        """Return the current weights, parametrised, tied or replaced ones included, as autocast would cast them."""
        if cast_to is None:
            return attributes(self, self._flat_weights_names)
        with without_autocast(device, cast_to):
            return [autocast_to(cast_to, weight) for weight in attributes(self, self._flat_weights_names)]

    def _dropped(self, weights: list[Tensor], seeds: Sequence[int | Tensor]) -> list[Tensor]:
        """Return the weights, of the recurrent ones some entries dropped if they are to be."""
        p = self.regularisation.weight_dropout
        if not (self.training and p):
            return weights
        names, recurrent, given = self._names, recurrent_weights(self._view.chain), iter(weights)
        groups = [drop_weights({name: next(given) for name in names}, recurrent, p, seed) for seed in seeds]
        return [weight for group in groups for weight in group.values()]

    def initial_state(self, batch_size: int) -> Hidden:
        """Return zeros in the form of `hx`: h_0 (L*D, B, P), for an LSTM with c_0 (L*D, B, H)."""
        (weight,) = attributes(self, self._flat_weights_names[:1])
        return self._as_hidden(self._states(None, batch_size, weight, weight, True, None))

    def _as_hidden(self, states: Sequence[Tensor]) -> Hidden:
        return tuple(states) if self.mode == "LSTM" else states[0]

    def backend_call(self, input: Tensor | PackedSequence | None = None, lengths: Any = None) -> Call:
        """Return what the choice of a backend depends on; see `explain_backend`."""
        like: Any = input.data if isinstance(input, PackedSequence) else input
        like = getattr(self, self._flat_weights_names[0]) if like is None else like
        weights = self._weights(like.device, autocast_dtype(like.device))
        if isinstance(input, PackedSequence):
            return self._call(like, weights, "packed", int(input.batch_sizes[0]))
        layout = "padded" if lengths is None else "lengths"
        if input is None:
            return self._call(like, weights, layout, 32)
        x = input.unsqueeze(1) if input.dim() == 2 else input.transpose(0, 1) if self.batch_first else input
        return self._call(x, weights, layout, x.shape[1], num_steps=x.shape[0])

    def _call(
        self,
        input: Tensor,
        weights: list[Tensor],
        layout: str,
        batch: int,
        states: Tensors = (),
        num_steps: int | None = None,
        has_reset: bool = False,
    ) -> Call:
        training, options = self.training, self.regularisation
        # Whether autograd records the call matters to cuDNN alone.
        differentiated = input.is_cuda and torch.is_grad_enabled()
        differentiated = differentiated and any(tensor.requires_grad for tensor in (input, *states, *weights))
        unlike_torch, additions = "", PLAIN
        if options != NOTHING:
            unlike_torch, additions = options.inside(training), options.additions(0, training, self.step_clips)
        if self.recording is not None:
            unlike_torch, additions = "recording of gradients", additions._replace(recorder=self.recording)
        return Call(
            self.mode,
            self.hidden_size,
            self.proj_size,
            input.device,
            weights[0].dtype,
            batch,
            layout,
            differentiated,
            training,
            unlike_torch="resets" if has_reset else unlike_torch,
            chain=self._view.chain,
            additions=additions,
            num_steps=num_steps,
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
        if isinstance(input, PackedSequence):
            if lengths is not None or reset is not None:
                raise ValueError("lengths and reset go with padded input; a PackedSequence brings its own lengths")
            return self._forward_packed(input, hx)
        if input.is_nested:
            raise RuntimeError("nested tensors are not supported: pad the batch and pass lengths=")
        if input.dim() not in (2, 3):
            word = " tensor" if self.mode.startswith("RNN") else ""
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {input.dim()}D{word} instead")
        cast_to = autocast_dtype(input.device)
        weights = self._weights(input.device, cast_to)
        checks.check_input_tensor(input, weights[0], self.input_size, cast_to is not None)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        num_steps, batch = x.shape[:2]
        states = self._states(hx, batch, x, weights[0], batched, cast_to)
        if num_steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        mask, starts, layout = None, None, "padded"
        if lengths is not None:
            if not batched:
                raise ValueError("lengths go with batched input (T, B, I), got an unbatched one")
            mask = lengths_to_mask(checks.check_lengths(lengths, batch, num_steps, input.device), num_steps)
            layout = "lengths"
        if reset is not None:
            starts = checks.check_steps("reset", reset, num_steps, batch, batched, self.batch_first, input.device)
            if mask is not None:
                starts = starts & mask
        call = self._call(x, weights, layout, batch, states, num_steps, reset is not None)
        backend = choose(self.backend, call).backend
        with without_autocast(input.device, cast_to):
            if cast_to is not None:
                x, states = autocast_to(cast_to, x), tuple(autocast_to(cast_to, state) for state in states)
            seeds = self._seeds()
            weights = self._dropped(weights, seeds)
            if backend == "aten" and mask is None:
                output, states = self._aten(x, states, weights, is_cast=cast_to is not None)
            else:
                output, states = self._stack(backend, x, states, weights, seeds, mask, starts)
        if not batched:
            return output.squeeze(1), self._as_hidden([state.squeeze(1) for state in states])
        return output.transpose(0, 1) if self.batch_first else output, self._as_hidden(states)

    def _states(
        self, hx: Any, batch: int, x: Tensor, weight: Tensor, batched: bool, cast_to: torch.dtype | None
    ) -> Tensors:
        """Return the checked initial states, each (L*D, B, width)."""
        rows, units = 2 * self.num_layers if self.bidirectional else self.num_layers, self.hidden_size
        h_shape, c_shape = (rows, batch, self.proj_size or units), (rows, batch, units)
        shapes = (h_shape, c_shape) if self.mode == "LSTM" else (h_shape,)
        if hx is None:
            h_0 = x.new_zeros(h_shape)
            return (h_0,) if len(shapes) == 1 else (h_0, x.new_zeros(c_shape))
        states = checks.split_states(hx, len(shapes), type(self).__name__)
        if not batched:
            checks.check_state_rank(states, batched)
            states = tuple(state.unsqueeze(1) for state in states)
        checks.check_states(states, shapes, x, weight, cast_to is not None)
        return states

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Hidden]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        if data.dim() != 2:
            raise ValueError(f"{self._get_name()}: Expected packed data to be 2D, got {data.dim()}D instead")
        cast_to = autocast_dtype(data.device)
        weights = self._weights(data.device, cast_to)
        checks.check_input_tensor(data, weights[0], self.input_size, cast_to is not None)
        if int(batch_sizes.sum()) != data.shape[0]:
            raise RuntimeError(
                f"the PackedSequence holds {data.shape[0]} steps but its batch_sizes add up to "
                f"{int(batch_sizes.sum())}: a length was larger than the padded sequence"
            )
        batch = int(batch_sizes[0])
        states = self._states(hx, batch, data, weights[0], True, cast_to)
        backend = choose(self.backend, self._call(data, weights, "packed", batch, states)).backend
        with without_autocast(data.device, cast_to):
            data, states = autocast_to(cast_to, data), tuple(autocast_to(cast_to, state) for state in states)
            seeds = self._seeds()
            weights = self._dropped(weights, seeds)
            if sorted_indices is not None:
                states = tuple(state.index_select(1, sorted_indices) for state in states)
            if backend == "aten":
                output, states = self._aten(data, states, weights, batch_sizes, is_cast=cast_to is not None)
            else:
                packed = PackedSequence(data, batch_sizes)  # rows in the order of their lengths, as the states are
                x, steps, mask = unpacked(packed)
                padded, states = self._stack(backend, x, states, weights, seeds, mask)
                output = packed_as(packed, padded, steps).data
            if unsorted_indices is not None:
                if self.recording is not None and torch.is_grad_enabled():
                    self.recording.put_back(unsorted_indices)
                states = tuple(state.index_select(1, unsorted_indices) for state in states)
        return input._replace(data=output), self._as_hidden(states)

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
        backend: str,
        x: Tensor,
        states: Tensors,
        weights: Sequence[Tensor],
        seeds: Sequence[int | Tensor],
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        is_step: bool = False,
    ) -> tuple[Tensor, Tensors]:
        """Run layers and directions one by one: x (T, B, I), states (L*D, B, width)."""
        options, view, names, given = self.regularisation, self._view, self._names, iter(weights)
        sides = []
        for k, seed in enumerate(seeds):
            state, side_weights = tuple(part[k] for part in states), {name: next(given) for name in names}
            additions, reverse = options.additions(seed, self.training, self.step_clips), k % self.num_directions == 1
            sides.append(Side(view, "chain", backend, state, view.chain, side_weights, additions, reverse, seed))
        outputs, results = self._run(x, sides, options, mask, reset, is_step=is_step)
        return outputs[0], tuple(map(torch.stack, zip(*(final for _, final, _ in results), strict=True)))

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
        weights = self._weights(x.device, cast_to)
        checks.check_input_tensor(x, weights[0], self.input_size, cast_to is not None)
        batch = x.shape[0]
        states = self._states(state, batch, x, weights[0], batched, cast_to)
        backend = "aten"
        is_recorded = self.recording is not None and torch.is_grad_enabled()
        is_plain = not is_recorded and not self.proj_size and self.regularisation == NOTHING
        if not is_torchs_step(self.backend, is_plain):
            backend = choose(self.backend, self._call(x, weights, "step", batch, states)).backend
        with without_autocast(x.device, cast_to):
            if cast_to is not None:
                x, states = autocast_to(cast_to, x), tuple(autocast_to(cast_to, part) for part in states)
            seeds = self._seeds()
            weights = self._dropped(weights, seeds)
            if backend == "aten":
                y, states = stacked_step(self.mode, x, states, weights, self.dropout if self.training else 0.0)
            else:
                output, states = self._stack(backend, x.unsqueeze(0), states, weights, seeds, is_step=True)
                y = output[0]
        if not batched:
            return y.squeeze(0), self._as_hidden([part.squeeze(1) for part in states])
        return y, self._as_hidden(states)
