"""What the models share: building the recurrent layer and reading its last state, dropout, initialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rnnlab.decoding.symbols import PADDING, START
from rnnlab.nn import Recurrent
from rnnlab.nn.init import initialise, recurrent_modules

# `rnn(input_size=...)` gives a recurrent layer: a class of rnnlab.nn with everything else bound.
RecurrentFactory = Callable[..., nn.Module]


class LockedDropout(nn.Module):
    """Drop features with one mask for all steps of a call (Gal and Ghahramani, 2016), the rest scaled by 1 / (1 - p).

    Args:
        p: probability to drop, in [0, 1).
        name: of the setting, for the message.

    Raises:
        ValueError: it is not.
    """

    def __init__(self, p: float, name: str = "dropout") -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"model.{name} must lie in [0, 1), got {p!r}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x (T, B, F) with features of each row dropped; in evaluation x itself."""
        if not self.training or self.p == 0:
            return x
        return x * torch.empty_like(x[:1]).bernoulli_(1 - self.p).div_(1 - self.p)


def output_width(layer: nn.Module) -> int:
    """Return the features of a recurrent layer's output, D*H or, with a projection, D*proj_size.

    Raises:
        ValueError: the layer expects batch-major input, and the models feed it time-major; or it merges its directions
            in another way than side by side.
    """
    if getattr(layer, "batch_first", False):
        raise ValueError("rnn.batch_first must be false, got True: the models feed their layers time-major")
    if layer.bidirectional and getattr(layer, "merge", "concat") != "concat":
        raise ValueError(f"rnn.merge must be concat, got {layer.merge}: the models read the directions apart")
    if hasattr(layer, "output_sizes"):  # rnnlab.nn.Recurrent
        return layer.output_sizes[-1]
    return (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)


def goes_onwards(layer: nn.Module) -> bool:
    """Return whether a layer's output at a step depends on no later one."""
    return not (layer.bidirectional or getattr(layer, "go_backwards", False))


def streams(layer: nn.Module) -> bool:
    """Return whether a layer goes onwards and carries a state, so that it can read on where it stopped."""
    return goes_onwards(layer) and getattr(layer, "carries_state", True)


def last_output(output: Tensor, layer: nn.Module, lengths: Tensor | None = None) -> Tensor:
    """Return where each direction of the last layer ended.

    Args:
        output: time-major output of the layer (T, B, D*H).
        layer: the layer; its reverse direction ends at time 0.
        lengths: int64 (B,), at which rows end; None where all have T steps.

    Returns:
        (B, D*H).
    """
    last = output[-1] if lengths is None else output[lengths - 1, torch.arange(lengths.shape[0], device=lengths.device)]
    if not layer.bidirectional:
        return last
    width = last.shape[-1] // 2
    return torch.cat([last[:, :width], output[0, :, width:]], dim=-1)


def initialise_all(layers: list[nn.Module], head: nn.Linear | None, init: Mapping[str, Any] | None) -> None:
    """Initialise recurrent layers by name, and the head as Keras does where the layers' inputs are.

    Args:
        layers: recurrent layers, changed in place.
        head: read-out; Glorot-uniform weight and zero bias if `init` names glorot, else left as constructed.
        init: arguments of `rnnlab.nn.init.initialise`; None leaves everything as constructed. So is a layer without
            weights of torch's names, such as a linear recurrent unit, which has a start of its own.

    Raises:
        ValueError: as `rnnlab.nn.init.initialise` has it; or `chrono` for a layer that is left as constructed.
    """
    if init is None:
        return
    for layer in layers:
        if any(recurrent_modules(layer)):
            initialise(layer, **init)
        elif init.get("chrono") is not None:
            name = type(layer.cells[0] if isinstance(layer, Recurrent) else layer).__name__
            raise ValueError(f"chrono needs a gate that keeps the past, with a bias: {name} has none")
    if head is not None and "glorot" in (init.get("input"), init.get("recurrent")):
        nn.init.xavier_uniform_(head.weight)
        nn.init.zeros_(head.bias)


def embedding_table(num_symbols: int, size: int, vectors: Tensor | None = None) -> nn.Embedding:
    """Return a table of embeddings in which padding is zero, and the rest as given, or as small as after one layer.

    Without vectors, elements are uniform with variance 1 / size (Ma and Hovy, 2016).

    Raises:
        ValueError: the vectors are not one for each symbol, or no size of at least 1.
    """
    if vectors is None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ValueError(f"the size of an embedding must be an integer of at least 1, got {size!r}")
    if vectors is not None and (vectors.dim() != 2 or len(vectors) != num_symbols):
        raise ValueError(f"vectors must be ({num_symbols}, E), one for each word, got {tuple(vectors.shape)}")
    table = nn.Embedding(num_symbols, size if vectors is None else vectors.shape[1], padding_idx=PADDING)
    with torch.no_grad():
        if vectors is None:
            table.weight.uniform_(-((3 / size) ** 0.5), (3 / size) ** 0.5)
        else:
            table.weight.copy_(vectors)
        table.weight[PADDING] = 0
    return table


def check_shared(option: str, source_size: int, target_size: int, shared_vocabulary: bool | None) -> None:
    """Raise ValueError, naming the option that needs it, unless a number is the same symbol on both sides.

    Args:
        option: name of a setting.
        source_size, target_size: symbols of each side.
        shared_vocabulary: whether they are the same; None: where there are as many.
    """
    if source_size != target_size or shared_vocabulary is False:
        raise ValueError(
            f"{option}=true needs one vocabulary for both sides (data.shared_vocabulary=true), got "
            f"{source_size} source and {target_size} target symbols"
        )


def stack_frames(features: Tensor, stack: int) -> Tensor:
    """Return frames (T, B, F) as one vector for each `stack` of them, (T / stack rounded up, B, stack * F).

    A last stack that is not full is filled with zeros.
    """
    if stack == 1:
        return features
    whole = pad(features, (0, 0, 0, 0, 0, -features.shape[0] % stack))
    return whole.unflatten(0, (-1, stack)).transpose(1, 2).flatten(2)


def decoder_input(target: Tensor) -> Tensor:
    """Return what is read before each symbol of a target (B, U): START, and then the target but for its last one."""
    return torch.cat([target.new_full((target.shape[0], 1), START), target[:, :-1]], dim=1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values of half precision in float32, in which losses are safe."""
    return values if values.dtype == torch.float64 else values.float()
