"""Dropout for recurrent networks: one mask for a whole sequence, on values or on recurrent weights; zoneout rates.

Masks come from a counter and a seed drawn once (rnnlab_kernels.schedules.noise), so a rate of 0 changes no bit and
draws no number. Masks inside the recurrence are the schedules' business: rnnlab_kernels.schedules.additions.

T time, B batch, F features.
"""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

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
