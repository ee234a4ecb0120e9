"""From the last states of an encoder, or from a vector, to the first ones of a decoder.

Letters: B batch, C numbers of a vector, W width of a part of a state, L layers, D directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# What the parts of a state of torch's form are called: of an LSTM's tuple, and of a tensor alone.
_NAMES = ("h", "c")


class Bridge(nn.Module):
    """Give each layer of a decoder a state to start from.

    Layers are paired from the last one down; where the decoder has more, its lower ones all start from the encoder's
    first. Each part of a state (h, c, ...) starts from the part of the same name, or from h where the encoder has no
    such part, of all directions side by side: as it is where the widths agree, and through a linear map elsewhere.

    Args:
        encoder: a layer of `rnnlab.nn`: one of torch's kind, or `Recurrent` over any cell.
        decoder: likewise.

    Raises:
        ValueError: one of them has no state that can be read or set this way; both are named.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        sides = f"no bridge from the encoder {_words(encoder)} to the decoder {_words(decoder)}"
        for side, module in (("encoder", encoder), ("decoder", decoder)):
            if not hasattr(module, "initial_state"):
                raise ValueError(f"{sides}: the {side} has no initial_state; the layers of rnnlab.nn do")
        if decoder.bidirectional:
            raise ValueError(f"{sides}: the decoder must run in one direction, it writes from the first symbol on")
        self._given, self._wanted = _forms(encoder, sides), _forms(decoder, sides)
        self.num_directions = 2 if encoder.bidirectional else 1
        num_given, num_wanted = len(self._given) // self.num_directions, len(self._wanted)
        self.sources = [max(0, k + num_given - num_wanted) for k in range(num_wanted)]
        self.maps = nn.ModuleList()
        for source, wanted in zip(self.sources, self._wanted, strict=True):
            widths = self._given[source * self.num_directions]
            total = {name: self.num_directions * width for name, width in widths.items()}
            maps = {name: (total.get(name, total[next(iter(total))]), width) for name, width in wanted.items()}
            self.maps.append(
                nn.ModuleDict({name: nn.Linear(*sizes) for name, sizes in maps.items() if sizes[0] != sizes[1]})
            )

    def forward(self, state: Any, like: Any) -> Any:
        """Return the decoder's first state.

        Args:
            state: the encoder's last one, as its call returns it.
            like: an initial state of the decoder for B rows, whose form, dtypes and values of no parts are taken.
        """
        given = [{name: _as_real(part) for name, part in layer.items()} for layer in _layers(state)]
        found = []
        for source, wanted, maps in zip(self.sources, _layers(like), self.maps, strict=True):
            sides = given[source * self.num_directions :][: self.num_directions]
            parts = {}
            for name, part in wanted.items():
                taken = name if name in sides[0] else next(iter(sides[0]))
                value = torch.cat([side[taken] for side in sides], dim=-1) if len(sides) > 1 else sides[0][taken]
                value = maps[name](value) if name in maps else value
                parts[name] = _as_part(value, part)
            found.append(parts)
        return _in_form(found, like)


class FirstState(nn.Module):
    """Give each part of the state that a layer starts from as a linear map of a vector.

    Args:
        width: C, numbers of the vector.
        layer: of `rnnlab.nn`, in one direction.

    Raises:
        ValueError: its state cannot be set this way, or it runs in both directions.
    """

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        if getattr(layer, "bidirectional", False):
            raise ValueError("a layer that writes must have rnn.bidirectional=false: its last step cannot come first")
        forms = _forms(layer, f"no first state for {_words(layer)} from a vector")
        self.maps = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(width, size) for name, size in parts.items()}) for parts in forms
        )

    def forward(self, vector: Tensor, like: Any) -> Any:
        """Return the state for vectors (B, C), in the form of `like`, an initial state for B rows."""
        found = [
            {name: _as_part(maps[name](vector), part) for name, part in parts.items()}
            for maps, parts in zip(self.maps, _layers(like), strict=True)
        ]
        return _in_form(found, like)


def _layers(state: Any) -> list[dict[str, Tensor]]:
    """Return the parts of a state by name, (B, W) each, for each layer and direction."""
    if isinstance(state, Tensor):  # (L*D, B, W)
        return [{_NAMES[0]: part} for part in state]
    if isinstance(state[0], Tensor):  # an LSTM's
        return [dict(zip(_NAMES, parts, strict=True)) for parts in zip(*state, strict=True)]
    return [layer._asdict() for layer in state]  # of `Recurrent`


def _in_form(layers: list[dict[str, Tensor]], like: Any) -> Any:
    """Return parts by name in the form of the state `like`."""
    if isinstance(like, Tensor):
        return torch.stack([layer[_NAMES[0]] for layer in layers])
    if isinstance(like[0], Tensor):
        return tuple(torch.stack([layer[name] for layer in layers]) for name in _NAMES)
    return tuple(type(layer)(**parts) for layer, parts in zip(like, layers, strict=True))


def _forms(module: nn.Module, sides: str) -> list[dict[str, int]]:
    """Return the widths of the parts of a module's states, in real numbers, for each layer and direction."""
    try:
        layers = _layers(module.initial_state(1))
    except (AttributeError, TypeError, IndexError):
        raise ValueError(f"{sides}: the state of {_words(module)} is no tuple of named tensors") from None
    for layer in layers:
        for name, part in layer.items():
            if part.dim() != 2 or not (part.is_floating_point() or part.is_complex()):
                raise ValueError(
                    f"{sides}: the part {name} of the state of {_words(module)} is {part.dtype} {tuple(part.shape)}, "
                    "and a bridge needs rows of real or complex numbers (B, W)"
                )
    return [{name: _as_real(part).shape[1] for name, part in layer.items()} for layer in layers]


def _as_real(part: Tensor) -> Tensor:
    """Return a part (B, W), complex numbers as pairs (B, 2*W)."""
    return torch.view_as_real(part).flatten(1) if part.is_complex() else part


def _as_part(value: Tensor, like: Tensor) -> Tensor:
    """Return real values in the form of a part: complex where that is."""
    if not like.is_complex():
        return value.to(like.dtype)
    return torch.view_as_complex(value.unflatten(1, (-1, 2)).contiguous()).to(like.dtype)


def _words(module: nn.Module) -> str:
    """Return a module's class and sizes, as in LSTM(16, 32)."""
    cells = getattr(module, "cells", None)
    if cells is not None:
        return f"Recurrent of {type(cells[0]).__name__}({cells[0].input_size}, {cells[0].hidden_size})"
    return f"{type(module).__name__}({getattr(module, 'input_size', '?')}, {getattr(module, 'hidden_size', '?')})"
