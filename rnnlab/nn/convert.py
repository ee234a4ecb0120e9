"""Weights of recurrent layers between torch, Keras and ONNX: gate order, transposition, bias layout.

| | torch | Keras | ONNX |
| --- | --- | --- | --- |
| LSTM gates | i f g o | i f c o | i o f c |
| GRU gates | r z n | z r h | z r h |
| input weights | `weight_ih` (G*H, I) | `kernel` (I, G*H) | `W` (D, G*H, I) |
| recurrent weights | `weight_hh` (G*H, H) | `recurrent_kernel` (H, G*H) | `R` (D, G*H, H) |
| biases | `bias_ih`, `bias_hh` (G*H) | `bias` (G*H); GRU with reset_after (2, G*H) | `B` (D, 2*G*H) |

In torch, ONNX and Keras' reset_after GRU the input and the recurrent part have a bias each. Keras has the sum of both
elsewhere: converted back, it is `bias_ih`, and `bias_hh` is 0. torch's GRU multiplies by the reset gate after the
recurrent product: reset_after=True in Keras (its default), linear_before_reset=1 in ONNX (not its default). Keras must
use the default activations (tanh, sigmoid; Keras 1 had hard_sigmoid). Neither format has projections.

Letters: I input_size, H hidden_size, G gates per unit, L layers, D directions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray[Any, Any]

FORMATS = ("torch", "keras", "onnx")
KERAS_NAMES = ("kernel", "recurrent_kernel", "bias")
ONNX_NAMES = ("W", "R", "B")
# By G: where torch's k-th gate stands in the other format.
KERAS_GATES = {1: (0,), 3: (1, 0, 2), 4: (0, 1, 2, 3)}
ONNX_GATES = {1: (0,), 3: (1, 0, 2), 4: (0, 2, 3, 1)}
GRU_GATES = 3
MODES = ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")


class _Run(NamedTuple):
    """The weights of one layer in one direction, in torch's layout; biases are both None or both there."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    @property
    def num_gates(self) -> int:
        return self.weight_hh.shape[0] // self.weight_hh.shape[1]


def convert_weights(
    weights: Mapping[str, Any] | Sequence[Any],
    source: str,
    target: str,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    reset_after: bool = True,
) -> dict[str, Tensor] | list[Array]:
    """Convert the weights of a recurrent layer, or of a stack, from one library's layout to another's.

    "torch" is a state_dict (`weight_ih_l0`, ...). "keras" is the list of `get_weights()`: kernel, recurrent kernel and,
    unless use_bias=False, bias; for Bidirectional forward, then backward; for a stack the lists of its layers one after
    the other. "onnx" is W, R and, unless omitted, B of each node, one node a layer. Which cell it is follows from the
    shapes.

    Args:
        weights: tensors or arrays in the layout of `source`.
        source: torch, keras or onnx.
        target: torch, keras or onnx.
        num_layers: L.
        bidirectional: whether D = 2.
        reset_after: for Keras GRUs: False for a layer built with reset_after=False, whose bias is (G*H).

    Returns:
        A state_dict for "torch", else a list of arrays. bfloat16, which numpy lacks, becomes float32 there.

    Raises:
        ValueError: an unknown format, a wrong number of weights, names or shapes that do not fit; the message names it.

    Example:
        >>> import rnnlab.nn
        >>> from rnnlab.nn.convert import convert_weights
        >>> [array.shape for array in convert_weights(rnnlab.nn.LSTM(3, 4).state_dict(), "torch", "keras")]
        [(3, 16), (4, 16), (16,)]
    """
    for argument, name in (("source", source), ("target", target)):
        if name not in FORMATS:
            raise ValueError(f"Unknown {argument}={name!r}. Select from {', '.join(FORMATS)}.")
    directions = 2 if bidirectional else 1
    if source == "torch":
        if not isinstance(weights, Mapping):
            raise ValueError(f"torch weights come as a state_dict, got: {type(weights).__name__}")
        runs = _read_torch(weights, num_layers, directions)
    else:
        if isinstance(weights, Mapping):
            raise ValueError(f"{source} weights come as a list of arrays, got: {type(weights).__name__}")
        arrays = [_as_tensor(weight) for weight in weights]
        read = _read_keras if source == "keras" else _read_onnx
        runs = read(arrays, num_layers, directions, reset_after)
    if target == "torch":
        return {
            f"{name}{suffix}": weight
            for suffix, run in zip(_suffixes(num_layers, directions), runs, strict=True)
            for name, weight in run._asdict().items()
            if weight is not None
        }
    tensors = _write_keras(runs, reset_after) if target == "keras" else _write_onnx(runs, directions)
    return [_as_array(tensor) for tensor in tensors]


def to_keras(module: nn.Module) -> list[Array]:
    """Return the weights of a layer or cell of rnnlab.nn or torch.nn in the order of Keras' `get_weights()`."""
    return _export(module, "keras")


def to_onnx(module: nn.Module) -> list[Array]:
    """Return W (D, G*H, I), R (D, G*H, H) and, with bias, B (D, 2*G*H) of each layer, in the order of ONNX' inputs."""
    return _export(module, "onnx")


def from_keras(module: nn.Module, arrays: Sequence[Any]) -> nn.Module:
    """Load a list such as Keras' `get_weights()` gives into a layer or cell of the same sizes, and return the module.

    Raises:
        ValueError: another number of arrays than the module needs, or a shape that does not fit; nothing is loaded.

    Example:
        >>> import rnnlab.nn
        >>> from rnnlab.nn.convert import from_keras, to_keras
        >>> one, other = rnnlab.nn.GRU(3, 4, bidirectional=True), rnnlab.nn.GRU(3, 4, bidirectional=True)
        >>> _ = from_keras(other, to_keras(one))
        >>> bool((one.weight_hh_l0_reverse == other.weight_hh_l0_reverse).all())
        True
    """
    return _load(module, arrays, "keras", KERAS_NAMES)


def from_onnx(module: nn.Module, arrays: Sequence[Any]) -> nn.Module:
    """Load W, R and B of one ONNX node a layer into a layer or cell of the same sizes, and return the module.

    Raises:
        ValueError: another number of arrays than the module needs, or a shape that does not fit; nothing is loaded.
    """
    return _load(module, arrays, "onnx", ONNX_NAMES)


def _arguments(module: nn.Module) -> dict[str, Any]:
    """Return the arguments of `convert_weights` that describe a module.

    Raises:
        TypeError: not a recurrent layer or cell.
        ValueError: a cell that Keras and ONNX do not have.
    """
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        raise TypeError(f"expected a layer or cell of rnnlab.nn or torch.nn, got: {type(module).__name__}")
    if getattr(module, "mode", "LSTM") not in MODES:
        raise ValueError(f"Keras and ONNX have no counterpart of {module.mode}")
    return {
        "num_layers": getattr(module, "num_layers", 1),
        "bidirectional": bool(getattr(module, "bidirectional", False)),
        "reset_after": getattr(module, "reset_after", True),
    }


def _export(module: nn.Module, target: str) -> list[Array]:
    arguments = _arguments(module)
    # By getattr, so that parametrised, tied or replaced weights count as they are used.
    own = {name for name, _ in module.named_parameters() if "." not in name}
    names = sorted(own.union(getattr(module, "_flat_weights_names", ("weight_ih", "weight_hh"))))
    weights = {name if _is_layer(module) else f"{name}_l0": getattr(module, name) for name in names}
    return convert_weights(weights, "torch", target, **arguments)  # type: ignore[return-value]


def _load(module: nn.Module, arrays: Sequence[Any], source: str, names: tuple[str, ...]) -> nn.Module:
    wanted = [array.shape for array in _export(module, source)]
    shapes = [tuple(np.shape(array)) for array in arrays]
    if len(wanted) != len(shapes):
        raise ValueError(
            f"{type(module).__name__} needs {len(wanted)} arrays, {', '.join(names[: 3 if module.bias else 2])} for "
            f"each layer{' and direction' if source == 'keras' else ''}, got {len(shapes)}"
        )
    for k, (want, shape) in enumerate(zip(wanted, shapes, strict=True)):
        if want != shape:
            name = names[k % (3 if module.bias else 2)]
            raise ValueError(f"array {k} ({name}) must be {want} for this {type(module).__name__}, got {shape}")
    weights = convert_weights(arrays, source, "torch", **_arguments(module))
    assert isinstance(weights, dict)
    module.load_state_dict({name if _is_layer(module) else name.removesuffix("_l0"): w for name, w in weights.items()})
    return module


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.RNNBase)


def _suffixes(num_layers: int, directions: int) -> list[str]:
    return [f"_l{layer}{end}" for layer in range(num_layers) for end in ("", "_reverse")[:directions]]


def _read_torch(weights: Mapping[str, Any], num_layers: int, directions: int) -> list[_Run]:
    if any("weight_hr" in name for name in weights):
        raise ValueError("neither Keras nor ONNX has a projecting LSTM: proj_size must be 0")
    suffixes = _suffixes(num_layers, directions)
    fields = _Run._fields if f"bias_ih{suffixes[0]}" in weights else _Run._fields[:2]
    expected = {f"{field}{suffix}" for suffix in suffixes for field in fields}
    if expected != set(weights):
        raise ValueError(
            f"the state_dict of {num_layers} layer(s) in {directions} direction(s) does not fit: "
            f"missing {sorted(expected - set(weights))}, not known {sorted(set(weights) - expected)}"
        )
    runs = []
    for suffix in suffixes:
        named = {f"{field}{suffix}": _as_tensor(weights[f"{field}{suffix}"]) for field in fields}
        ih, hh, *biases = named.values()
        rows = _check_gates(hh, f"weight_hh{suffix}", "G*H H")
        for (name, weight), shape in zip(named.items(), ((rows, -1), (rows, -1), (rows,), (rows,)), strict=False):
            _check_shape(weight, name, shape)
        runs.append(_Run(ih, hh, *(biases or (None, None))))
    return runs


def _read_keras(arrays: list[Tensor], num_layers: int, directions: int, reset_after: bool) -> list[_Run]:
    count = _count(arrays, num_layers * directions, "keras", KERAS_NAMES)
    runs = []
    for start in range(0, len(arrays), count):
        kernel, recurrent, *bias = arrays[start : start + count]
        label = _label(start // count // directions, start // count % directions, directions)
        columns = _check_gates(recurrent, f"{label}recurrent_kernel", "H G*H")
        _check_shape(kernel, f"{label}kernel", (-1, columns))
        hidden = recurrent.shape[0]
        order = KERAS_GATES[columns // hidden]
        ih, hh = (_reorder(matrix.t(), hidden, order) for matrix in (kernel, recurrent))
        if not bias:
            runs.append(_Run(ih, hh, None, None))
            continue
        two = columns // hidden == GRU_GATES and reset_after
        hint = f" (reset_after={reset_after})" if columns // hidden == GRU_GATES else ""
        _check_shape(bias[0], f"{label}bias{hint}", (2, columns) if two else (columns,))
        rows = [_reorder(row, hidden, order) for row in (bias[0] if two else bias[0][None])]
        runs.append(_Run(ih, hh, rows[0], rows[1] if two else torch.zeros_like(rows[0])))
    return runs


def _write_keras(runs: list[_Run], reset_after: bool) -> list[Tensor]:
    tensors = []
    for run in runs:
        hidden, order = run.weight_hh.shape[1], _inverse(KERAS_GATES[run.num_gates])
        tensors += [_reorder(weight, hidden, order).t() for weight in (run.weight_ih, run.weight_hh)]
        if run.bias_ih is not None and run.bias_hh is not None:
            two = run.num_gates == GRU_GATES and reset_after
            bias = torch.stack([run.bias_ih, run.bias_hh], 1) if two else run.bias_ih + run.bias_hh
            tensors.append(_reorder(bias, hidden, order).t() if two else _reorder(bias, hidden, order))
    return tensors


def _read_onnx(arrays: list[Tensor], num_layers: int, directions: int, reset_after: bool) -> list[_Run]:
    count = _count(arrays, num_layers, "onnx", ONNX_NAMES)
    runs = []
    for layer in range(num_layers):
        w, r, *b = arrays[layer * count : (layer + 1) * count]
        label = f"layer {layer} "
        rows, hidden = _check_gates(r, f"{label}R", "D G*H H"), r.shape[-1]
        _check_shape(r, f"{label}R", (directions, rows, hidden))
        _check_shape(w, f"{label}W", (directions, rows, -1))
        order = ONNX_GATES[rows // hidden]
        if b:
            _check_shape(b[0], f"{label}B", (directions, 2 * rows))
        for direction in range(directions):
            biases = [_reorder(half, hidden, order) for half in b[0][direction].chunk(2)] if b else [None, None]
            matrices = (_reorder(weight[direction], hidden, order) for weight in (w, r))
            runs.append(_Run(*matrices, *biases))
    return runs


def _write_onnx(runs: list[_Run], directions: int) -> list[Tensor]:
    tensors = []
    for start in range(0, len(runs), directions):
        parts = runs[start : start + directions]
        hidden, order = parts[0].weight_hh.shape[1], _inverse(ONNX_GATES[parts[0].num_gates])
        for matrices in ([run.weight_ih for run in parts], [run.weight_hh for run in parts]):
            tensors.append(torch.stack([_reorder(weight, hidden, order) for weight in matrices]))
        halves = [[_reorder(b, hidden, order) for b in (run.bias_ih, run.bias_hh) if b is not None] for run in parts]
        if halves[0]:
            tensors.append(torch.stack([torch.cat(pair) for pair in halves]))
    return tensors


def _reorder(weight: Tensor, hidden: int, order: Sequence[int]) -> Tensor:
    """Return rows (G*H, ...) with the blocks of H rows in another order: block k is the given `order[k]`-th."""
    blocks = weight.unflatten(0, (-1, hidden))
    return blocks[list(order)].flatten(0, 1)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=lambda k: order[k])


def _label(layer: int, direction: int, directions: int) -> str:
    way = "" if directions == 1 else ("forward ", "backward ")[direction]
    return f"layer {layer} {way}"


def _count(arrays: list[Tensor], parts: int, source: str, names: tuple[str, ...]) -> int:
    """Return how many arrays there are for each of `parts` parts: two, or three with a bias."""
    if len(arrays) not in (2 * parts, 3 * parts):
        raise ValueError(
            f"{source} weights of {parts} part(s) are {', '.join(names[:2])}[, {names[2]}] for each: "
            f"{2 * parts} or {3 * parts} arrays, got {len(arrays)}"
        )
    return len(arrays) // parts


def _check_gates(recurrent: Tensor, name: str, form: str) -> int:
    """Return G*H of recurrent weights, whose sizes are named in `form`: "G*H H", "H G*H" or "D G*H H"."""
    sizes = dict(zip(form.split(), recurrent.shape, strict=False))
    rows, hidden = sizes.get("G*H", 0), sizes.get("H", 0)
    if recurrent.dim() != len(form.split()) or hidden == 0 or rows not in [gates * hidden for gates in KERAS_GATES]:
        wanted = f"({form.replace(' ', ', ')}) with G = 1, 3 or 4"
        raise ValueError(f"{name} must be {wanted}, got {tuple(recurrent.shape)}")
    return rows


def _check_shape(weight: Tensor, name: str, shape: tuple[int, ...]) -> None:
    fits = weight.dim() == len(shape) and all(want in (-1, got) for got, want in zip(weight.shape, shape, strict=True))
    if not fits:
        wanted = ", ".join("I" if size == -1 else str(size) for size in shape)
        raise ValueError(f"{name} must be ({wanted}{',' if len(shape) == 1 else ''}), got {tuple(weight.shape)}")


def _as_tensor(weight: Any) -> Tensor:
    return weight.detach().cpu() if isinstance(weight, Tensor) else torch.as_tensor(np.array(weight))


def _as_array(tensor: Tensor) -> Array:
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.ascontiguousarray(tensor.numpy())
