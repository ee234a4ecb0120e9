"""Any cell over time: stacked, in one or both directions, with masks, resets, regularisers and carried states.

Letters: T time, B batch, I input_size, F features of an output, W width of a state, L layers, D directions.
"""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnlab.nn import checks
from rnnlab.nn.bidirectional import check_merge
from rnnlab.nn.carry import state_names
from rnnlab.nn.cells.protocol import Source, build_cells, check_noise, reset_parameters, view, weight_like
from rnnlab.nn.options import StepClips, Zoneout, check_rate, check_zoneout
from rnnlab.nn.stack import CellStack, packed_as, unpacked
from rnnlab.nn.state import autocast_dtype
from rnnlab.nn.unroll import Result
from rnnlab_kernels.cells.chain import giving
from rnnlab_kernels.schedules.layout import lengths_to_mask, zero_padding

_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_FLAGS = (
    "batch_first",
    "residual",
    "go_backwards",
    "return_all_states",
    "zero_output_for_mask",
    "stateful",
    "learn_initial_state",
)


class Recurrent(CellStack):
    """Run a cell over time.

    A cell is an nn.Module with `input_size`, `hidden_size`, `initial_state(batch_size, device=, dtype=)` and
    `forward(x_t, state) -> (y_t, state)`, a state being a NamedTuple of tensors (B, W); or one of torch's cells. A cell
    that states its gate maths (`rnnlab.nn.cells.base`) or is linear in its state runs on compiled kernels, another one
    on the plain loop: `rnnlab.nn.explain_backend` says which. On kernels a cell's `forward` is not called, so neither
    are its forward hooks.

    Args:
        cell: a cell; or a list of them, one for each layer, of any sizes that fit; or a function of input_size that
            returns one. Further layers and the reverse direction get a cell like the one given, with its own weights.
        num_layers: L.
        bidirectional: a second cell a layer reads each sequence from its end.
        merge: of the two directions: "concat", "sum", "mul", "mean", or "none" for a tuple of both outputs (between
            layers they are concatenated).
        input_size: I, needed only where `cell` is a function.
        batch_first: input and output are (B, T, *).
        dropout: rate of ordinary dropout between layers.
        residual: add each layer's input to its output, where they are of one width.
        norm: "batch" (over all valid steps; with a mask, their number is waited for on a GPU) or "layer", between
            layers, not in time; None for none.
        go_backwards: from the last step to the first. Output stays aligned with the input.
        return_all_states: return all states at all steps, too.
        zero_output_for_mask: output at masked steps is zero; if False, that of the last valid step before, in the order
            of those visited (zero before the first).
        stateful: start from the last states of the previous call, detached; see `reset_state`.
        learn_initial_state: start from parameters, at first the cell's own initial state.
        input_dropout: what a layer reads is dropped with one mask a sequence (Gal & Ghahramani, 2016).
        output_dropout: as is the output of the last layer.
        recurrent_dropout: as is what a step reads of the previous state (ibid.).
        candidate_dropout: rate of dropout on the candidate, anew at each step (Semeniuta et al., 2016).
        weight_dropout: rate of DropConnect on all weights that multiply within a step, which those of the input do not,
            drawn once a call (Merity et al., 2018). Parameters keep their values.
        zoneout: probability that a unit keeps its previous value, expected values in evaluation (Krueger et al., 2017):
            one for all states, one for each by position, or by name in a dict.
        clip_grad_step: clamp the gradient that states hand back over each step to +-this value (Graves, 2013). What
            `return_all_states` gives out hands back a gradient of its own, clamped apart.
        checkpoint_steps: keep activations for so many steps at a time, and compute them again in the backward pass.
        backend: "auto", "reference", "eager", "fused", "triton", "step" or "sequence"; what runs it, never what it
            computes.

    Random masks depend on one number a cell and call, drawn from torch's default CPU generator only if some rate is not
    zero and the module is training.

    Raises:
        TypeError: a cell that does not follow the protocol.
        ValueError: an option outside its range, sizes that do not fit, or an option that the cell cannot have.

    Example:
        >>> import torch, rnnlab.nn
        >>> layer = Recurrent(rnnlab.nn.GRUCell(3, 4), num_layers=2, bidirectional=True, zoneout=0.1)
        >>> output, state = layer(torch.zeros(5, 2, 3), lengths=[5, 3])
        >>> output.shape, len(state), state[0].h.shape
        (torch.Size([5, 2, 8]), 4, torch.Size([2, 4]))
    """

    def __init__(
        self,
        cell: Source | Sequence[Source],
        num_layers: int = 1,
        bidirectional: bool = False,
        merge: str = "concat",
        *,
        input_size: int | None = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
        norm: str | None = None,
        go_backwards: bool = False,
        return_all_states: bool = False,
        zero_output_for_mask: bool = True,
        stateful: bool = False,
        learn_initial_state: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        clip_grad_step: float | None = None,
        checkpoint_steps: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        checks.check_count("num_layers", num_layers)
        checks.check_backend_name(backend)
        self.merge, self.bidirectional = check_merge(merge), bool(bidirectional)
        self.num_directions = 2 if bidirectional else 1
        widen = merge in ("concat", "none")
        self.cells = nn.ModuleList(build_cells(cell, num_layers, self.num_directions, input_size, widen))
        self.num_layers = len(self.cells) // self.num_directions
        self.batch_first, self.residual, self.norm = batch_first, residual, norm
        self.go_backwards, self.return_all_states = go_backwards, return_all_states
        self.zero_output_for_mask, self.stateful = zero_output_for_mask, stateful
        self.dropout = check_rate("dropout", dropout)
        self.input_dropout = check_rate("input_dropout", input_dropout)
        self.output_dropout = check_rate("output_dropout", output_dropout)
        self.recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
        self.candidate_dropout = check_rate("candidate_dropout", candidate_dropout)
        self.weight_dropout = check_rate("weight_dropout", weight_dropout)
        self.clip_grad_step, self.checkpoint_steps, self.backend = clip_grad_step, checkpoint_steps, backend
        self.step_clips = StepClips()
        self._carry, self.learned = None, None
        self.learn_initial_state = learn_initial_state
        self._check_options()
        self.zoneout = zoneout
        self._state_names = [state_names(self._cell_state(k, 1)) for k in range(len(self.cells))]
        check_zoneout(zoneout, self._state_names)
        like = weight_like(self.cells[0])
        options = {} if like is None else {"device": like.device, "dtype": like.dtype}
        self.norms = nn.ModuleList(_NORMS[norm](size, **options) for size in self.output_sizes[:-1] if norm)
        if learn_initial_state:
            self.learned = self._learn_initial_states()
        self._prepare()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def _prepare(self) -> None:
        """Make what a call asks for, chains, types of state, options: torch.compile can look them up, not make them."""
        _ = self._options
        for k, cell in enumerate(self.cells):
            self._cell_state(k, 1)
            chain: Any = getattr(view(cell), "chain", None)
            for name in () if chain is None else chain.states:
                giving(chain, name)

    def reset_parameters(self) -> None:
        """Draw all parameters anew; learned initial states become the cells' own again."""
        for part in (*self.cells, *self.norms):
            reset_parameters(part)
        learned, self.learned = self.learned, None
        initial, self.learned = self._learn_initial_states(), learned
        with torch.no_grad():
            for name, value in () if learned is None else learned.items():
                value.copy_(initial[name])

    def _check_options(self) -> None:
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} should be of type bool, got: {type(getattr(self, name)).__name__}")
        for cell in self.cells:
            check_noise(
                cell,
                recurrent_dropout=self.recurrent_dropout,
                candidate_dropout=self.candidate_dropout,
                weight_dropout=self.weight_dropout,
            )
        if self.clip_grad_step is not None:
            checks.check_limit("clip_grad_step", self.clip_grad_step)
        if self.checkpoint_steps is not None:
            checks.check_count("checkpoint_steps", self.checkpoint_steps)
        if self.norm not in (*_NORMS, None):
            raise ValueError(f"Unknown norm {self.norm!r}. Select from {', '.join(map(repr, _NORMS))} or None.")
        for name in ("dropout", "norm"):
            if getattr(self, name) and self.num_layers == 1:
                warnings.warn(f"{name} goes between layers: it does nothing with num_layers=1", stacklevel=3)
        if self.stateful and (self.bidirectional or self.go_backwards):
            raise ValueError("stateful: a pass that starts at the end of each call cannot go on from the call before")
        if self.go_backwards and self.bidirectional:
            raise ValueError("bidirectional layers go backwards already: go_backwards is for one direction")
        if self.residual and self.merge == "none" and self.bidirectional:
            raise ValueError('residual needs one output a layer: choose another merge than "none"')
        if self.residual and not any(self._is_residual(layer) for layer in range(self.num_layers)):
            raise ValueError("residual: no layer's output is as wide as its input")

    def extra_repr(self) -> str:
        options = inspect.signature(Recurrent.__init__).parameters
        changed = {name: getattr(self, name) for name in list(options)[3:] if name != "input_size"}
        changed = {name: value for name, value in changed.items() if value != options[name].default}
        return ", ".join([f"num_layers={self.num_layers}", *(f"{name}={value!r}" for name, value in changed.items())])

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """Run the layers over a batch of sequences.

        Args:
            input: (T, B, I), or (B, T, I) with batch_first, or unbatched (T, I), or a PackedSequence.
            hx: initial states, a tuple with one NamedTuple of tensors (B, W) for each layer and direction, or that one
                itself if there is only one; (W,) for unbatched input. None: as `initial_state`, or carried over.
            lengths: (B,) integers, steps of each row, in any order, zero allowed; a tensor on any device or ints.
            mask: boolean (T, B), or (B, T) with batch_first, or (T,) unbatched: the steps that count, in any pattern. A
                step outside holds the state and has no influence. Not together with `lengths`.
            reset: boolean, of that shape: a new sequence starts at these steps, be they masked or not, but not beyond
                a row's length. States are zero before them; in the reverse direction, before the step that precedes
                them.

        Returns:
            output (T, B, F) in the layout of the input, a tuple of two with merge "none"; the final states in the form
            of `hx`, always a tuple; and, with `return_all_states`, the states at all steps, in that form, each
            (T, B, W) in the layout of the input.

        Raises:
            ValueError: wrong number of dimensions, dtype other than the weights', lengths beyond T, shapes of masks.
            RuntimeError: wrong sizes or devices, or a backend asked for by name that cannot run the call.
            TypeError: an argument of another form.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, [lengths, mask, reset])
        x, batched = self._time_major(input)
        num_steps, batch = x.shape[:2]
        if num_steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        steps = (num_steps, batch, batched, self.batch_first, x.device)
        valid = None
        if lengths is not None:
            if mask is not None:
                raise ValueError("lengths and mask say the same thing: give one of them")
            if not batched:
                raise ValueError("lengths go with batched input (T, B, I), got an unbatched one")
            valid = lengths_to_mask(checks.check_lengths(lengths, batch, num_steps, x.device), num_steps)
        elif mask is not None:
            valid = checks.check_steps("mask", mask, *steps)
        starts = None if reset is None else checks.check_steps("reset", reset, *steps)
        if starts is not None and valid is not None and lengths is not None:
            starts = starts & valid
        start = self._start(hx, x, batched, self._carry, list(self.cells))
        if valid is not None:
            x = zero_padding(x, valid)
        options = self._options
        sides = self._sides(x, start, options, "padded" if valid is None else "lengths")
        outputs, results = self._run(x, sides, options[0], valid, starts, self.return_all_states)
        finals = self._finals(results, start, batched)
        for k, output in enumerate(outputs):
            outputs[k] = self._in_layout(output, batched)
        result = (outputs[0] if len(outputs) == 1 else tuple(outputs), finals)
        if not self.return_all_states:
            return result
        states = [tuple(self._in_layout(part, batched) for part in every) for _, _, every in results]
        return (*result, tuple(self._in_form(states, start, True)))

    def _time_major(self, input: Tensor) -> tuple[Tensor, bool]:
        """Return the checked input as (T, B, I), and whether it was batched."""
        if not isinstance(input, Tensor):
            raise TypeError(f"{self._get_name()}: expected a Tensor or a PackedSequence, got {type(input).__name__}")
        if input.is_nested:
            raise RuntimeError("nested tensors are not supported: pad the batch and pass lengths=")
        if input.dim() not in (2, 3):
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        self._check_features(input, self.cells[0])
        if input.dim() == 2:
            return input.unsqueeze(1), False
        return input.transpose(0, 1) if self.batch_first else input, True

    def _check_features(self, input: Tensor, first: nn.Module) -> None:
        like = weight_like(first)
        weight = input if like is None else like
        is_cast = input.dtype != weight.dtype and autocast_dtype(input.device) is not None
        checks.check_input_tensor(input, weight, first.input_size, is_cast)  # type: ignore[arg-type]

    def _in_layout(self, x: Tensor, batched: bool) -> Tensor:
        if not batched:
            return x.squeeze(1)
        return x.transpose(0, 1) if self.batch_first else x

    def _forward_packed(self, input: PackedSequence, hx: Any, others: list[Any]) -> Any:
        if any(option is not None for option in others):
            raise ValueError("lengths, mask and reset go with padded input; a PackedSequence brings its lengths")
        if self.return_all_states:
            raise ValueError("return_all_states goes with padded input and lengths=")
        self._check_features(input.data, self.cells[0])
        x, steps, valid = unpacked(input)
        start, options = self._start(hx, x, True, self._carry, list(self.cells)), self._options
        outputs, results = self._run(x, self._sides(x, start, options, "lengths"), options[0], valid, None)
        packed = [packed_as(input, output, steps) for output in outputs]
        return packed[0] if len(packed) == 1 else tuple(packed), self._finals(results, start, True)

    def _finals(self, results: list[Result], like: list[Any], batched: bool) -> tuple[Any, ...]:
        """Return the last states in the form of `hx`; a stateful module carries them to the next call."""
        _, finals, _ = zip(*results, strict=True)
        if self.stateful:
            self._carry = tuple(tuple(part.detach().clone() for part in state) for state in finals)
        return tuple(self._in_form(finals, like, batched))

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Advance by one time step; in evaluation mode, T calls equal one call on T steps.

        Args:
            x_t: (B, I) or unbatched (I,).
            state: in the form of `hx`; None as there, but nothing is carried over.

        Returns:
            output (B, F) or (F,), and the new states.

        Raises:
            ValueError: some layer goes backwards, or `x_t` is not 1-D or 2-D.
            RuntimeError: as `forward`; or the module has a hook before its forward.
        """
        checks.check_hooks(self, "step")
        if self.bidirectional or self.go_backwards:
            raise ValueError("a layer that goes backwards, or both ways, starts at the end: it cannot run step by step")
        if x_t.dim() not in (1, 2):
            raise ValueError(f"{self._get_name()}.step: Expected input to be 1D or 2D, got {x_t.dim()}D instead")
        cells = list(self.cells)
        self._check_features(x_t, cells[0])
        batched = x_t.dim() == 2
        x = x_t if batched else x_t.unsqueeze(0)
        start, options = self._start(state, x, batched, None, cells), self._options
        found = self._plain_step(cells, x, start, options)
        if found is None:
            x = x.unsqueeze(0)
            outputs, results = self._run(
                x, self._sides(x, start, options, "step"), options[0], None, None, is_step=True
            )
            found = outputs[0][0], [final for _, final, _ in results]
        y, finals = found
        return y if batched else y[0], tuple(self._in_form(finals, start, batched))
