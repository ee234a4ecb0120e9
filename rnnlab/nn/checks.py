"""Refusals: every argument the layers do not take, with torch.nn's exception types and wording.

Where torch fails late, fails obscurely or accepts nonsense, these checks are stricter: they refuse early and say what
was given and what is allowed. Nothing here computes anything.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "eager", "fused", "aten", "triton", "step", "sequence")


def check_backend_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"Unknown backend {backend!r}. Select from {', '.join(map(repr, BACKENDS))}.")


def check_nonlinearity(nonlinearity: object) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")


def check_layer_arguments(
    input_size: object,
    hidden_size: object,
    num_layers: object,
    bias: object,
    batch_first: object,
    dropout: object,
    bidirectional: object,
    proj_size: object,
) -> None:
    """Check a layer's constructor arguments in torch's order."""
    try:
        float(dropout)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(f"dropout should be a number in range [0, 1], got: {dropout!r}") from None
    if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed, "
            f"got: {dropout!r}"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers "
            f"greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=4,  # the line that constructs the layer
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        _check_size(name, size)
    if not isinstance(bidirectional, int):
        raise TypeError(f"bidirectional should be of type bool, got: {type(bidirectional).__name__}")
    if not isinstance(proj_size, int) or isinstance(proj_size, bool):
        raise TypeError(f"proj_size should be of type int, got: {type(proj_size).__name__}")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:  # type: ignore[operator]
        raise ValueError("proj_size has to be smaller than hidden_size")


def _check_size(name: str, size: object) -> None:
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
    if size <= 0:
        raise ValueError(f"{name} must be greater than zero")


def check_cell_sizes(input_size: int, hidden_size: int) -> None:
    """Refuse negative sizes; zero is allowed, as in torch."""
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if size < 0:
            raise ValueError(f"{name} must not be negative, got: {size}")


def check_input_tensor(input: Tensor, weight: Tensor, input_size: int, autocast: bool) -> None:
    """Check dtype, feature size and device of an input of any layout (features last)."""
    if not autocast and input.dtype != weight.dtype:
        raise ValueError(
            f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
            f"Convert input: input.to({weight.dtype}), or convert model: model.to({input.dtype})"
        )
    if input.size(-1) != input_size:
        raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {input_size}, got {input.size(-1)}")
    if input.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not on the same device: "
            f"input on {input.device}, parameters on {weight.device}"
        )


def split_states(hx: object, num_states: int, name: str) -> tuple[Tensor, ...]:
    """Return `hx` as a tuple of `num_states` tensors, refusing any other form."""
    if num_states == 1:
        if not isinstance(hx, Tensor):
            raise TypeError(f"{name} expects hx to be a Tensor, got: {type(hx).__name__}")
        return (hx,)
    given = tuple(hx) if isinstance(hx, (tuple, list)) else (None,)
    for state in given:
        if not isinstance(state, Tensor):
            form = "a tuple or list of two tensors (h_0, c_0)"
            raise TypeError(f"{name} expects hx to be {form}, got: {type(hx).__name__}")
    if len(given) != num_states:
        raise RuntimeError(f"lstm expects two hidden states, got {len(given)}")
    return given


def check_state_rank(states: Sequence[Tensor], batched: bool) -> None:
    """Refuse states whose number of dimensions does not go with the input's."""
    dim, word = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
    if all(state.dim() == dim for state in states):
        return
    if len(states) == 2:
        given = f"({states[0].dim()}-D, {states[1].dim()}-D) tensors"
        raise RuntimeError(f"For {word} input, hx and cx should also be {dim}-D but got {given}")
    raise RuntimeError(f"For {word} input, hx should also be {dim}-D but got {states[0].dim()}-D tensor")


def check_states(
    states: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], input: Tensor, weight: Tensor, autocast: bool
) -> None:
    """Check shapes, device and dtype of the initial states of a layer, each (L*D, B, width)."""
    device = input.device
    for k, state in enumerate(states):
        if tuple(state.shape) != shapes[k]:
            check_state_rank(states, batched=True)
            label = f"hidden[{k}]" if len(states) > 1 else "hidden"
            raise RuntimeError(f"Expected {label} size {shapes[k]}, got {list(state.shape)}")
        if state.device != device:
            raise RuntimeError(
                "Input and hidden tensors are not on the same device: "
                f"input on {input.device}, hidden on {state.device}"
            )
        if not autocast and state.dtype != weight.dtype:
            raise RuntimeError(f"hx dtype ({state.dtype}) does not match weight dtype ({weight.dtype})")


def check_cell_call(
    x: Tensor, states: Sequence[Tensor], weight: Tensor, input_size: int, hidden_size: int, autocast: bool
) -> None:
    """Check the batched input (B, I) and states (B, H) of a cell."""
    for k, tensor in enumerate((x, *states)):
        if not autocast and tensor.dtype != weight.dtype:
            name = f"hidden{k - 1}" if k else "input"
            raise RuntimeError(f"{name} dtype ({tensor.dtype}) does not match weight dtype ({weight.dtype})")
    batch = x.shape[0]
    if x.shape[1] != input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {input_size}")
    for k, state in enumerate(states):
        shape = tuple(state.shape)
        if len(shape) != 2:
            raise RuntimeError("input and hidden should both be batched (2-D) or both unbatched (1-D)")
        if shape[0] != batch:
            raise RuntimeError(f"Input batch size {batch} doesn't match hidden{k} batch size {shape[0]}")
        if shape[1] != hidden_size:
            raise RuntimeError(f"hidden{k} has inconsistent hidden_size: got {shape[1]}, expected {hidden_size}")
        if state.device != x.device:
            raise RuntimeError(
                f"Input and hidden tensors are not on the same device: input on {x.device}, hidden on {state.device}"
            )
    if x.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not on the same device: "
            f"input on {x.device}, parameters on {weight.device}"
        )


def check_lengths(lengths: object, batch: int, num_steps: int, device: torch.device) -> Tensor:
    """Return `lengths` as an integer tensor (B,) on `device`.

    Lengths on the CPU are checked here. Lengths on another device are checked there, without waiting for it: a bad one
    then raises a device-side assertion at the next synchronisation. Under torch.compile the graph checks them.
    """
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths) if len(lengths) else torch.zeros(0, dtype=torch.int64)  # type: ignore[arg-type]
    if lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"lengths should be integers, got: {lengths.dtype}")
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lengths should have shape ({batch},), one for each row, got {tuple(lengths.shape)}")
    lengths = lengths.long()  # before comparing: T may be beyond a narrow type
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        for bad, rule in ((lengths > num_steps, f"at most T = {num_steps}"), (lengths < 0, "at least 0")):
            if bad.any():
                row = int(bad.nonzero()[0])
                raise ValueError(f"lengths should be {rule}, got {int(lengths[row])} in row {row}")
    elif lengths.device.type != "meta":
        torch._assert_async(((lengths >= 0) & (lengths <= num_steps)).all(), "lengths should be at least 0, at most T")
    return lengths.to(device, non_blocking=device.type == "cuda")


def check_steps(
    name: str, flags: object, num_steps: int, batch: int, batched: bool, batch_first: bool, device: torch.device
) -> Tensor:
    """Return a mask or reset mask, one flag for each step in the layout of the input, as (T, B, 1)."""
    if not isinstance(flags, Tensor) or flags.dtype != torch.bool:
        given = f"dtype {flags.dtype}" if isinstance(flags, Tensor) else type(flags).__name__
        raise TypeError(f"{name} should be a boolean tensor, got: {given}")
    shape = ((batch, num_steps) if batch_first else (num_steps, batch)) if batched else (num_steps,)
    if tuple(flags.shape) != shape:
        raise ValueError(f"{name} should have shape {shape}, one flag for each step, got {tuple(flags.shape)}")
    if flags.device != device:
        raise RuntimeError(f"Input and {name} are not on the same device: input on {device}, {name} on {flags.device}")
    flags = flags.clone()  # backward reads it too, and buffers of flags are often filled anew before that
    if not batched:
        return flags.view(-1, 1, 1)
    return (flags.t() if batch_first else flags).unsqueeze(-1)


def check_count(name: str, count: object) -> None:
    """Refuse anything but a positive int."""
    _check_size(name, count)


def check_limit(name: str, limit: object) -> None:
    """Refuse anything but a positive number."""
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not limit > 0:
        raise ValueError(f"{name} should be a positive number, got: {limit!r}")


def check_hooks(module: torch.nn.Module, caller: str) -> None:
    """Refuse hooks that were to run before the forward of a cell or layer, where `caller` does without that.

    Raises:
        RuntimeError: such a hook, as torch.nn.utils.prune, weight_norm and spectral_norm set them to compute a weight.
    """
    if module._forward_pre_hooks:
        raise RuntimeError(
            f"{type(module).__name__} has a hook before its forward, which {caller} does not call: prune by "
            "rnnlab.nn.pruning, compute weights by torch.nn.utils.parametrize or its parametrizations, hook the layer "
            "that is called for anything else"
        )
