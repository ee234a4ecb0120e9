"""Export of layers for inference: torch.export programs and ONNX files of any batch size and any number of steps.

torch.export takes a layer, or a `Recurrent`, with any number of steps: what runs over time is one operator of
rnnlab_kernels/ops.py. (A layer of torch's is unrolled, and its program runs at one number of steps only.) For ONNX the
whole stack of layers is one operator here, `rnnlab::stack`: torch runs it by its own kernels, in ONNX it becomes one
LSTM, GRU or RNN node a layer.

A program that was saved holds operators by name: import this module before `torch.export.load`.

For a model around a layer, such as embedding, layer and head:

    program = torch.export.export(exportable(model), inputs, dynamic_shapes=...)
    torch.onnx.export(program, f="model.onnx", custom_translation_table=onnx_translations())

Exported layers are in evaluation mode and have no gradient. ONNX needs `pip install "rnnlab[onnx]"`, knows no
projection and no other cells: a `Recurrent` cannot become ONNX. A program of `Recurrent` needs rnnlab_kernels where it
runs, the minor version of Python and the kind of device it was exported on; where it has a cell of your own, or one
with options in its name such as NARX with many taps, make such a cell before you load it. Its states are named tuples,
which `torch.export.save` refuses: export a module that returns the tensors of them.

Letters: T time, B batch, I input_size, H hidden_size, P proj_size or H, L layers, D directions.
"""

import copy
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils.rnn import PackedSequence

from rnnlab.nn import checks
from rnnlab.nn.layer import Layer
from rnnlab_kernels import ops  # noqa: F401  register what saved programs run
from rnnlab_kernels.cells import CELLS
from rnnlab_kernels.schedules.layout import Weights, lengths_to_mask
from rnnlab_kernels.schedules.stepwise.kit_torch import eager

_ATEN: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}
# Where ONNX' k-th gate stands in torch's order.
_ONNX_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN_TANH": (0,), "RNN_RELU": (0,)}


@torch.library.custom_op("rnnlab::stack", mutates_args=())
def stack(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    mode: str,
    num_layers: int,
    bidirectional: bool,
) -> list[Tensor]:
    """Run a stack of layers for inference: x (T, B, I), states (L*D, B, .), lengths (B,); weights in torch's order.

    Returns:
        output (T, B, D*P), then the final states.
    """
    directions = 2 if bidirectional else 1
    per_run = len(weights) // (num_layers * directions)
    if lengths is None and per_run in (2, 4):  # not projecting, which torch's fast kernels do not take
        hx: Any = list(states) if mode == "LSTM" else states[0]
        return list(_ATEN[mode](x, hx, list(weights), per_run == 4, num_layers, 0.0, False, bidirectional, False))
    mask = None if lengths is None else lengths_to_mask(lengths, x.shape[0])
    finals = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            ih, hh, *rest = weights[k * per_run : (k + 1) * per_run]
            hr = rest.pop() if len(rest) % 2 else None
            bias_ih, bias_hh = rest or (None, None)
            own = Weights(ih, hh, bias_ih, bias_hh, hr)
            y, final = eager(CELLS[mode.lower()], x, tuple(s[k] for s in states), own, mask, reverse=direction == 1)
            outputs.append(y)
            finals.append(final)
        x = torch.cat(outputs, -1)
    return [x, *(torch.stack(parts) for parts in zip(*finals, strict=True))]


@stack.register_fake
def _(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    mode: str,
    num_layers: int,
    bidirectional: bool,
) -> list[Tensor]:
    width = states[0].shape[2] * (2 if bidirectional else 1)
    return [x.new_empty(x.shape[0], x.shape[1], width), *(state.new_empty(state.shape) for state in states)]


def exportable(model: nn.Module) -> nn.Module:
    """Return a copy of a model, in evaluation mode and without gradients, whose layers export with any B and T.

    Layers of rnnlab.nn keep their arguments but `reset`, and keep `step`; a PackedSequence raises TypeError.

    Raises:
        ValueError: a layer with zoneout, which mixes states in evaluation mode too.

    Example:
        >>> import torch, rnnlab.nn
        >>> from rnnlab.nn.export import exportable
        >>> time = torch.export.Dim("time")
        >>> inputs = (torch.zeros(5, 2, 3),)
        >>> program = torch.export.export(exportable(rnnlab.nn.GRU(3, 4)), inputs, dynamic_shapes=({0: time},))
        >>> program.module()(torch.zeros(9, 2, 3))[0].shape
        torch.Size([9, 2, 4])
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, Layer):
            if layer.regularisation.zoneout:
                raise ValueError("a layer with zoneout cannot be exported: zoneout changes evaluation mode as well")
            layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
            layer.step = partial(_step, layer)  # type: ignore[method-assign]
    return model


def _forward(layer: Layer, input: Tensor, hx: Any = None, *, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
    """Do what `Layer.forward` does for padded input, by one operator."""
    if isinstance(input, PackedSequence):
        raise TypeError("a PackedSequence cannot be exported: pass the padded batch and lengths=")
    checks.check_input_tensor(input, getattr(layer, layer._flat_weights_names[0]), layer.input_size, False)
    batched = input.dim() == 3
    x = input if batched else input.unsqueeze(1)
    if batched and layer.batch_first:
        x = x.transpose(0, 1)
    states = (hx,) if isinstance(hx, Tensor) else layer.initial_state(x.shape[1]) if hx is None else tuple(hx)
    states = (states,) if isinstance(states, Tensor) else states
    if hx is not None and not batched:
        states = tuple(state.unsqueeze(1) for state in states)
    weights = [getattr(layer, name) for name in layer._flat_weights_names]
    bidirectional = bool(layer.bidirectional)
    output, *finals = stack(x, states, weights, lengths, layer.mode, layer.num_layers, bidirectional)
    if not batched:
        output, finals = output.squeeze(1), [state.squeeze(1) for state in finals]
    elif layer.batch_first:
        output = output.transpose(0, 1)
    return output, tuple(finals) if len(finals) > 1 else finals[0]


def _step(layer: Layer, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """Do what `Layer.step` does, as a sequence of one step."""
    if layer.bidirectional:
        raise ValueError("a bidirectional layer cannot run step by step: its reverse direction starts at the end")
    axis = 1 if layer.batch_first and x_t.dim() == 2 else 0
    output, state = _forward(layer, x_t.unsqueeze(axis), state)
    return output.squeeze(axis), state


class _Flat(nn.Module):
    """A layer as a function of tensors: (input, h_0[, c_0][, lengths]) -> (output, h_n[, c_n])."""

    def __init__(self, layer: nn.Module, streaming: bool) -> None:
        super().__init__()
        self.layer, self.streaming = layer, streaming

    def forward(self, input: Tensor, states: list[Tensor], lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        hx = tuple(states) if len(states) > 1 else states[0]
        output, final = self.layer.step(input, hx) if self.streaming else self.layer(input, hx, lengths=lengths)  # type: ignore[operator]
        return output, *((final,) if isinstance(final, Tensor) else final)


def export_program(layer: Layer, *, streaming: bool = False, lengths: bool = False) -> ExportedProgram:
    """Return a torch.export program of a layer with its state as input and output.

    Its module is called as `program.module()(input, [h_0], ...)`, `[h_0, c_0]` for an LSTM, and returns
    (output, h_n[, c_n]). Input and output are in the layer's layout, (B, T, I) with batch_first; states (L*D, B, .).

    Args:
        layer: an RNN, LSTM or GRU of rnnlab.nn.
        streaming: export `step` instead: input (B, I), output (B, P).
        lengths: take lengths (B,), int64, as the last input.

    Raises:
        TypeError: not a layer of rnnlab.nn.
        ValueError: streaming of a bidirectional layer, or streaming with lengths; zoneout.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"expected a layer of rnnlab.nn, got: {type(layer).__name__}; for a model, see `exportable`")
    if streaming and (layer.bidirectional or lengths):
        what = "lengths" if lengths else "a bidirectional layer"
        raise ValueError(f"streaming goes without {what}: a step knows neither the end of a sequence nor what follows")
    batch, time = Dim("batch"), Dim("time")
    # Sizes of an example, all different, so that no two are taken for one.
    x = torch.zeros((2, layer.input_size) if streaming else (2, 5, layer.input_size))
    x = x.to(getattr(layer, layer._flat_weights_names[0]))
    axes = {0: batch} if streaming else {0: batch, 1: time}
    if not streaming and not layer.batch_first:
        x, axes = x.transpose(0, 1), {0: time, 1: batch}
    hidden = layer.initial_state(2)
    states = [hidden] if isinstance(hidden, Tensor) else list(hidden)
    inputs: tuple[Any, ...] = (x, states)
    shapes: tuple[Any, ...] = (axes, [{1: batch}] * len(states))
    if lengths:
        inputs, shapes = (*inputs, torch.full((2,), 5, device=x.device)), (*shapes, {0: batch})
    with torch.no_grad():
        return torch.export.export(_Flat(exportable(layer), streaming), inputs, dynamic_shapes=shapes)


def export_onnx(layer: Layer, path: str | Path, *, streaming: bool = False, lengths: bool = False) -> None:
    """Write a layer as an ONNX file with its state as input and output.

    Inputs input, h_0[, c_0][, lengths], outputs output, h_n[, c_n]; layout as in `export_program`. B and T are free.
    One LSTM, GRU or RNN node a layer; weights are inside the file, in the layer's dtype. Tested in onnxruntime in
    float32, at other B and T than the example's, zero lengths included; it has no such nodes in bfloat16.

    Args:
        layer: an RNN, LSTM or GRU of rnnlab.nn.
        path: the file to write.
        streaming: export `step` instead: input (B, I), output (B, P).
        lengths: take lengths (B,), int64, as the last input.

    Raises:
        ModuleNotFoundError: onnx or onnxscript are missing.
        TypeError: not a layer of rnnlab.nn.
        ValueError: a projecting LSTM, which ONNX does not have; streaming as in `export_program`; zoneout.
    """
    if getattr(layer, "proj_size", 0):
        raise ValueError("ONNX has no projecting LSTM: proj_size must be 0")
    translations = onnx_translations()
    program = export_program(layer, streaming=streaming, lengths=lengths)
    states = ["h", "c"] if layer.mode == "LSTM" else ["h"]
    onnx_program = torch.onnx.export(
        program,
        input_names=["input", *(f"{state}_0" for state in states), *(["lengths"] if lengths else [])],
        output_names=["output", *(f"{state}_n" for state in states)],
        custom_translation_table=translations,
        verbose=False,
    )
    assert onnx_program is not None
    axes: Any = onnx_program.model.graph.inputs[0].shape
    time_axis = 1 if layer.batch_first else 0
    names = {0: "batch"} if streaming else {1 - time_axis: "batch", time_axis: "time"}
    onnx_program.rename_axes({axes[axis]: name for axis, name in names.items()})
    onnx_program.save(path)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the `custom_translation_table` with which torch.onnx.export writes layers as ONNX nodes.

    Raises:
        ModuleNotFoundError: onnx or onnxscript are missing.
    """
    try:
        importlib.import_module("onnx")  # torch.onnx asks for it later, in other words
        from onnxscript import FLOAT, INT32, INT64, opset18
    except ModuleNotFoundError as error:
        message = f'{error.name} is not installed: pip install "rnnlab[onnx]"'
        raise ModuleNotFoundError(message, name=error.name) from error

    op: Any = opset18  # its types know tensors, not values of a graph under construction

    def rows(weight: Any, mode: str) -> Any:
        """Put the blocks of H rows into ONNX' order of gates."""
        order = _ONNX_GATES[mode]
        hidden = int(weight.shape[0]) // len(order)
        starts = [op.Constant(value_ints=[k * hidden]) for k in order]
        ends = [op.Constant(value_ints=[(k + 1) * hidden]) for k in order]
        blocks = [op.Slice(weight, start, end) for start, end in zip(starts, ends, strict=True)]
        return op.Concat(*blocks, axis=0) if len(blocks) > 1 else weight

    def joined(parts: list[Any]) -> Any:
        """Stack the weights of the directions."""
        return op.Concat(*(op.Unsqueeze(part, op.Constant(value_ints=[0])) for part in parts), axis=0)

    def onnx_stack(
        x: FLOAT,
        states: Sequence[FLOAT],
        weights: Sequence[FLOAT],
        lengths: INT64 | None = None,
        mode: str = "",
        num_layers: int = 1,
        bidirectional: bool = False,
    ) -> Any:
        directions = 2 if bidirectional else 1
        per_run, recurrent = len(weights) // (num_layers * directions), cast(Any, weights[1])
        if per_run not in (2, 4):
            raise ValueError("ONNX has no projecting LSTM: proj_size must be 0")
        options: dict[str, Any] = {
            "direction": "bidirectional" if bidirectional else "forward",
            "hidden_size": int(recurrent.shape[1]),
        }
        if mode == "GRU":
            options["linear_before_reset"] = 1
        if mode.startswith("RNN"):
            options["activations"] = [mode.removeprefix("RNN_").capitalize()] * directions
        operator: Any = {"LSTM": op.LSTM, "GRU": op.GRU}.get(mode, op.RNN)
        lengths_32 = None if lengths is None else op.Cast(lengths, to=INT32.dtype)
        finals = []
        for layer in range(num_layers):
            first = layer * directions
            runs = [weights[k * per_run : (k + 1) * per_run] for k in range(first, first + directions)]
            w, r = (joined([rows(run[k], mode) for run in runs]) for k in (0, 1))
            b = None
            if per_run == 4:
                b = joined([op.Concat(rows(run[2], mode), rows(run[3], mode), axis=0) for run in runs])
            bounds = [op.Constant(value_ints=[k]) for k in (first, first + directions, 0)]
            initial = [op.Slice(state, *bounds) for state in states]
            y, *final = operator(x, w, r, b, lengths_32, *initial, **options)
            if lengths is not None:
                # onnxruntime returns zeros for a row of no steps; the final state is the initial one.
                empty = op.Unsqueeze(op.Equal(lengths, op.Constant(value_ints=[0])), op.Constant(value_ints=[1]))
                final = [op.Where(empty, *pair) for pair in zip(initial, final, strict=True)]
            # (T, D, B, H) to (T, B, D*H)
            x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))
            finals.append(final)
        return [x, *(op.Concat(*parts, axis=0) for parts in zip(*finals, strict=True))]

    return {torch.ops.rnnlab.stack.default: onnx_stack}
