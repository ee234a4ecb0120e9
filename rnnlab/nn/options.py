"""What layers add to a recurrence: dropout with one mask for a whole sequence, zoneout, clipping between steps.

Masks come from a counter and a seed drawn once (rnnlab_kernels.schedules.noise), so a rate of 0 changes no bit and
draws no number. Masks inside the recurrence are the schedules' business: rnnlab_kernels.schedules.additions.

Letters: T time, B batch, H hidden_size, F features.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from rnnlab.nn import checks
from rnnlab_kernels.cells import Cell
from rnnlab_kernels.schedules.additions import PLAIN, Additions, Noise
from rnnlab_kernels.schedules.noise.masks import keep_mask

# Streams of the counter beyond those of rnnlab_kernels.schedules.additions.
INPUT, OUTPUT, WEIGHT = 192, 193, 256

Zoneout = float | Mapping[str, float] | Sequence[float]


def check_rate(name: str, p: object) -> float:
    """Return `p` if it is a probability.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueError(f"{name} should be a probability in [0, 1], got: {p!r}")
    return float(p)


def variational_dropout(x: Tensor, p: float, seed: int | Tensor, stream: int) -> Tensor:
    """Drop features of x (T, B, F) with one mask (B, F) for all steps, the rest scaled by 1/(1-p).

    Gal & Ghahramani, 2016, "A theoretically grounded application of dropout in recurrent neural networks".
    """
    return x * _mask(tuple(x.shape[1:]), p, seed, stream, x)


def drop_weights(
    weights: Mapping[str, Tensor], names: Iterable[str], p: float, seed: int | Tensor
) -> dict[str, Tensor]:
    """Return the weights with entries of the named ones dropped, the rest scaled by 1/(1-p); nothing is overwritten.

    The rows of the heads of a weight (N, G*D, D) are dropped as one matrix, head after head.

    Wan et al., 2013, "Regularization of neural networks using DropConnect", on recurrent weights as in Merity et al.,
    2018, section 2: one mask for all steps of a forward pass.
    """
    dropped = {}
    for k, name in enumerate(names):
        weight = weights[name]
        mask = _mask(tuple(weight.flatten(0, -2).shape), p, seed, WEIGHT + k, weight)
        dropped[name] = weight * mask.view(weight.shape)
    return {**weights, **dropped}


def _mask(shape: tuple[int, ...], p: float, seed: int | Tensor, stream: int, like: Tensor) -> Tensor:
    rows, columns = shape
    mask = keep_mask(seed, stream, 0, (1, rows, columns), p, like.device, like.dtype)[0]
    return mask if p == 1 else mask * (1 / (1 - p))


def zoneout_rates(zoneout: Zoneout, states: Sequence[str]) -> tuple[float, ...]:
    """Return the rate of each state, by name, by position, or one for all; a name left out of a mapping means 0.

    Raises:
        ValueError: another number of rates than of states, or a rate that is no probability.
    """
    if isinstance(zoneout, Mapping):
        given = [zoneout.get(name, 0.0) for name in states]
    elif isinstance(zoneout, Sequence) and not isinstance(zoneout, str):
        if len(zoneout) != len(states):
            raise ValueError(
                f"zoneout has {len(zoneout)} rates, the cell has {len(states)} states: {', '.join(states)}"
            )
        given = list(zoneout)
    else:
        given = [zoneout] * len(states)
    return tuple(check_rate("zoneout", p) for p in given)


def check_zoneout(zoneout: Zoneout, states: Sequence[Sequence[str]]) -> None:
    """Refuse rates that do not fit several cells, given the names of their states.

    Raises:
        ValueError: as `zoneout_rates`, or a name that no cell has.
    """
    known = {name for names in states for name in names}
    if isinstance(zoneout, Mapping) and not set(zoneout) <= known:
        strangers = ", ".join(sorted(set(zoneout) - known))
        raise ValueError(f"zoneout names {strangers}; the states are {', '.join(sorted(known))}")
    for names in states:
        zoneout_rates(zoneout, names)


class StepClips:
    """Elements of the gradients that states hand back over each step, and how many of them were beyond the limit.

    Both are summed over all backward passes since the last `take()`. Steps that hold a row's states hand on what they
    get and do not count. Transforms of torch.func are not counted either.
    """

    def __init__(self) -> None:
        self._beyond: Tensor | int = 0
        self._all: Tensor | int = 0

    def __call__(self, grad: Tensor, limit: float, valid: Tensor | None) -> None:
        """Count a gradient (B, W) that is about to be clamped to +-limit in the rows that are `valid` (B, 1)."""
        if torch._C._are_functorch_transforms_active():
            return
        beyond = grad.detach().abs() > limit
        if valid is None:
            self._all = self._all + grad.numel()
        else:
            beyond = beyond & valid
            self._all = self._all + torch.count_nonzero(valid) * math.prod(grad.shape[1:])
        self._beyond = self._beyond + torch.count_nonzero(beyond)

    def take(self) -> tuple[int, int]:
        """Return how many elements were beyond the limit and how many there were, and count anew."""
        beyond, number = int(self._beyond), int(self._all)
        self._beyond, self._all = 0, 0
        return beyond, number

    def __deepcopy__(self, memo: Any) -> "StepClips":
        return StepClips()

    def __getstate__(self) -> dict[str, Any]:
        return {"_beyond": 0, "_all": 0}  # a module is saved without what it has counted


class Regularisers(TypedDict, total=False):
    """Keyword arguments that RNN, LSTM and GRU take beyond torch's; `Regularisation` says what they mean."""

    input_dropout: float
    output_dropout: float
    recurrent_dropout: float
    candidate_dropout: float
    weight_dropout: float
    zoneout: Zoneout
    clip_grad_step: float | None


class Regularisation(NamedTuple):
    """What a layer adds to torch's recurrence; all of it is off unless asked for, and then changes no bit.

    Attributes:
        input_dropout: rate of dropout on what each layer reads, one mask a sequence (Gal & Ghahramani, 2016).
        output_dropout: the same on the output of the last layer.
        recurrent_dropout: the same on h_{t-1} where it enters the recurrent product.
        candidate_dropout: rate of dropout on the candidate (g of an LSTM, n of a GRU), anew at each step (Semeniuta et
            al., 2016).
        weight_dropout: rate of DropConnect on the weights that multiply within a step, weight_hh and weight_hr, one
            mask a call (Merity et al., 2018).
        zoneout: for h, for an LSTM h and c, the probability that a unit keeps its value (Krueger et al., 2017).
        clip_grad_step: the gradient that states hand back over each step is clamped to +-this value; steps beyond a
            row's length hand it on as it is.
    """

    input_dropout: float = 0.0
    output_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    candidate_dropout: float = 0.0
    weight_dropout: float = 0.0
    zoneout: tuple[float, ...] = ()
    clip_grad_step: float | None = None

    @classmethod
    def checked(cls, cell: Cell, given: Regularisers) -> "Regularisation":
        """Return the options of a layer of `cell`.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a rate outside [0, 1], zoneout of a state that is not there, a limit that is not positive, or
                dropout of a missing candidate.
        """
        unknown = sorted(set(given) - set(cls._fields))
        if unknown:
            near = get_close_matches(unknown[0], cls._fields, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"RNNBase.__init__() got an unexpected keyword argument {unknown[0]!r}{hint}")
        rates = {name: check_rate(name, p) for name, p in given.items() if name.endswith("dropout")}
        if rates.get("candidate_dropout") and cell.dropped is None:
            raise ValueError(f"candidate_dropout needs a cell with a candidate: {cell.name} has none")
        zoneout, limit = given.get("zoneout", 0.0), given.get("clip_grad_step")
        if limit is not None:
            checks.check_limit("clip_grad_step", limit)
        check_zoneout(zoneout, [cell.states])
        per_state = zoneout_rates(zoneout, cell.states)
        return cls(**rates, zoneout=per_state if any(per_state) else (), clip_grad_step=limit)

    def is_random(self, training: bool) -> bool:
        """Return whether a call draws random masks."""
        rates = self[:5]
        return training and (any(rates) or any(self.zoneout))

    def inside(self, training: bool) -> str:
        """Name what of it acts inside the recurrence, where torch's own kernels cannot have it; "" if nothing does."""
        if self.zoneout:
            return "zoneout"
        if self.clip_grad_step is not None:
            return "clipping of gradients between steps"
        rates = (self.recurrent_dropout, self.candidate_dropout, self.input_dropout, self.output_dropout)
        return "dropout with one mask a sequence or inside the recurrence" if training and any(rates) else ""

    def additions(self, seed: int | Tensor, training: bool, clips: StepClips) -> Additions:
        """Return the additions to one pass over time but for resets; `clips` counts what is clipped."""
        noise = None
        if self.zoneout or training and (self.recurrent_dropout or self.candidate_dropout):
            noise = Noise(seed, self.recurrent_dropout, self.candidate_dropout, self.zoneout, training)
        elif self.clip_grad_step is None:
            return PLAIN
        return Additions(None, noise, self.clip_grad_step, clips)

    def words(self) -> str:
        """Return what differs from the defaults for a module's repr, with a leading comma."""
        changed: dict[str, Any] = {k: v for k, v in self._asdict().items() if v != Regularisation._field_defaults[k]}
        return "".join(f", {name}={value}" for name, value in changed.items())


NOTHING = Regularisation()
