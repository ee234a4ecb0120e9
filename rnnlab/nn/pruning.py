"""Magnitude pruning of recurrent and input weights, with masks that last through retraining (Han et al., 2015).

    for amount in han_schedule(0.9, rounds=4):
        magnitude_prune(model, amount)
        retrain(model, optimizer)        # the parameters stay the same objects, so the optimiser goes on as it is
    finish_pruning(model)

torch.nn.utils.prune picks the weights, torch.nn.utils.parametrize holds the masks. prune's own reparametrisation sets
the masked weight in a hook before `forward`: whatever reads a weight without that call, as `layer.step` or a cell in
`Recurrent` does, would go on with the weight of the last forward, and copy.deepcopy refuses the module. A parametrised
weight is computed whenever it is read. Where its mask is False, weight and gradient are exactly 0, whatever momentum or
weight decay do to the parameter underneath.

While pruned, a module's state_dict has the names of a parametrised one; `plain_state_dict` and `finish_pruning` give
the usual names with zeros in the weights. torch cannot pickle a parametrised module, only its state_dict.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from rnnlab.nn.init import weight_names

Place = tuple[str, nn.Module, str]  # dotted name, owner, name in the owner
WEIGHTS = ("weight_ih", "weight_hh")
SCOPES = ("layer", "global")


class Mask(nn.Module):
    """Keeps a weight where `mask` is True, and holds the order of the owner's parameters from before."""

    def __init__(self, mask: Tensor, order: tuple[str, ...]) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", mask)
        self.order = order

    def forward(self, weight: Tensor) -> Tensor:
        # Not a product: a masked weight of infinity would make it NaN.
        return torch.where(self.mask, weight, 0.0)


def magnitude_prune(
    module: nn.Module, amount: float, names: tuple[str, ...] = WEIGHTS, scope: str = "layer"
) -> dict[str, float]:
    """Mask the weights of smallest magnitude until a share of them is zero.

    Weights masked before stay so and count: 0.5 and then 0.7 leaves 30%. An amount already reached changes nothing.

    Args:
        module: a recurrent layer or cell of rnnlab.nn or torch.nn, or a module that contains some; changed in place.
        amount: share of zeros to reach, 0 <= amount < 1.
        names: how the names of the weights to prune begin.
        scope: "layer", the share holds in each weight (class-uniform in See et al., 2016), or "global", in all of them
            together by one threshold (class-blind there).

    Returns:
        `sparsity(module, names)`.

    Raises:
        ValueError: amount or scope out of range, no such weights, or weights that are parametrised otherwise.

    Example:
        >>> import rnnlab.nn
        >>> lstm = rnnlab.nn.LSTM(4, 8)
        >>> magnitude_prune(lstm, 0.75)
        {'weight_ih_l0': 0.75, 'weight_hh_l0': 0.75, 'total': 0.75}
    """
    if not 0 <= amount < 1:
        raise ValueError(f"amount must be at least 0 and below 1, got {amount}")
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
    places = weight_names(module, names)
    for group in [[place] for place in places] if scope == "layer" else [places]:
        for (_, owner, name), mask in zip(group, _smallest(group, amount), strict=True):
            _set_mask(owner, name, mask)
    return sparsity(module, names)


def sparsity(module: nn.Module, names: tuple[str, ...] = WEIGHTS) -> dict[str, float]:
    """Return the share of zeros in each weight by dotted name, and of all of them as "total", pruned or not."""
    counts = {path: getattr(owner, name).detach() for path, owner, name in weight_names(module, names)}
    zeros = {path: int((weight == 0).sum()) for path, weight in counts.items()}
    total = sum(weight.numel() for weight in counts.values())
    return {**{path: zeros[path] / counts[path].numel() for path in counts}, "total": sum(zeros.values()) / total}


def masks(module: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a pruned module by dotted name of the weight, True where it is kept; {} if not pruned."""
    return {path: mask.mask for path, _, _, mask in _masked(module)}


def set_masks(module: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Prune by given masks, those that `masks` returned for a module of the same structure.

    Raises:
        ValueError: a mask has no weight of its name and shape.
    """
    places = {path: (owner, name) for path, owner, name in weight_names(module, ("weight",))} if given else {}
    for path, mask in given.items():
        if path not in places or getattr(*places[path]).shape != mask.shape:
            raise ValueError(f"no weight called {path} of shape {tuple(mask.shape)} to prune")
        owner, name = places[path]
        _set_mask(owner, name, mask.to(getattr(owner, name).device))


def finish_pruning(module: nn.Module) -> None:
    """Make the pruning of a module permanent: usual parameters in the usual order, zero where they were masked.

    They are still the same objects, so an optimiser knows them; training them further fills the zeros again.
    """
    owners: dict[nn.Module, tuple[str, ...]] = {}
    for _, owner, name, mask in list(_masked(module)):
        with torch.no_grad():
            owner.get_parameter(f"parametrizations.{name}.original").masked_fill_(~mask.mask, 0.0)
        _unshare_class(owner)
        parametrize.remove_parametrizations(owner, name, leave_parametrized=False)
        owners[owner] = mask.order
    for owner, order in owners.items():
        for name in order:
            owner._parameters[name] = owner._parameters.pop(name)


def plain_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict that a pruned module would have after `finish_pruning`; the module stays as it is."""
    state = module.state_dict()
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        owner, is_parametrised, weight = key.rpartition("parametrizations.")
        weight, _, leaf = weight.partition(".")
        mask = state.get(f"{owner}parametrizations.{weight}.0.mask") if is_parametrised else None
        if mask is None:
            plain[key] = value
        elif leaf == "original":
            plain[owner + weight] = torch.where(mask, value, 0.0)
    return plain


def han_schedule(final: float, rounds: int) -> list[float]:
    """Return the amounts of an iterative pruning: each round prunes the same share of what is left (Han et al., 2015).

    Args:
        final: share of zeros after the last round, 0 < final < 1.
        rounds: number of prunings, each to be followed by retraining.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> [round(amount, 3) for amount in han_schedule(0.875, 3)]
        [0.5, 0.75, 0.875]
    """
    if not 0 < final < 1 or rounds < 1:
        raise ValueError(f"final must be between 0 and 1 and rounds at least 1, got {final} and {rounds}")
    return [1 - (1 - final) ** (done / rounds) for done in range(1, rounds)] + [final]


def sensitivity(
    module: nn.Module, measure: Callable[[], float], amounts: Sequence[float], names: tuple[str, ...] = WEIGHTS
) -> dict[str, dict[float, float]]:
    """Prune one weight at a time, without retraining, and measure which bears how much (Han et al., 2015, figure 6).

    Args:
        module: a model that is not pruned; as it was, afterwards.
        measure: returns the accuracy or loss of the module as it is.
        amounts: shares of zeros to try, from 0 to 1.
        names: how the names of the weights to try begin.

    Returns:
        The measurements by dotted name of the weight and amount.

    Raises:
        ValueError: the module is pruned already or has no such weights, or an amount is out of range.
    """
    if wrong := [amount for amount in amounts if not 0 <= amount <= 1]:
        raise ValueError(f"amounts must lie between 0 and 1, got {wrong[0]}")
    if masks(module):
        raise ValueError("sensitivity is measured before pruning, and this module is pruned")
    results: dict[str, dict[float, float]] = {}
    for place in weight_names(module, names):
        path, owner, name = place
        weight = getattr(owner, name)
        before = weight.detach().clone()
        results[path] = {}
        try:
            for amount in amounts:
                weight.data.copy_(torch.where(_smallest([place], amount)[0], before, 0.0))
                results[path][amount] = measure()
                weight.data.copy_(before)
        finally:
            weight.data.copy_(before)
    return results


def _smallest(group: list[Place], amount: float) -> list[Tensor]:
    """Return masks for weights that together are to have a share of zeros, the largest kept, masked ones masked."""
    weights = [getattr(owner, name).detach() for _, owner, name in group]
    kept = [
        torch.ones_like(weight, dtype=torch.bool) if old is None else old.mask.clone()
        for weight, old in zip(weights, (_own_mask(owner, name) for _, owner, name in group), strict=True)
    ]
    left = torch.cat([weight[keep] for weight, keep in zip(weights, kept, strict=True)])
    total = sum(weight.numel() for weight in weights)
    count = round(amount * total) - (total - left.numel())
    if count > 0:
        chosen = prune.L1Unstructured(count).compute_mask(left, torch.ones_like(left, dtype=torch.bool))
        for keep, part in zip(kept, chosen.split([int(keep.sum()) for keep in kept]), strict=True):
            keep[keep.clone()] = part
    return kept


def _own_mask(owner: nn.Module, name: str) -> Mask | None:
    """Return the mask of a weight, None if it is a plain parameter."""
    if not parametrize.is_parametrized(owner, name):
        return None
    found = owner.parametrizations[name][0]  # type: ignore[index]
    if not isinstance(found, Mask):
        raise ValueError(f"{name} is parametrised by {type(found).__name__}; only plain weights can be pruned")
    return found


def _set_mask(owner: nn.Module, name: str, mask: Tensor) -> None:
    old = _own_mask(owner, name)
    if old is not None:
        old.mask.copy_(mask)
        return
    order = next((other.order for _, part, _, other in _masked(owner) if part is owner), tuple(owner._parameters))
    _unshare_class(owner)
    masked = Mask(mask, order)
    # It sets the parameter to itself, on which autograd would let go of whoever waits for its gradient, as processes do
    # that sum it; autograd does not see what happens in this mode.
    with torch.inference_mode():
        parametrize.register_parametrization(owner, name, masked)


def _unshare_class(owner: nn.Module) -> None:
    """Give a parametrised module a class of its own.

    parametrize keeps a property for each weight in a class made for the module. copy.deepcopy shares that class, and a
    property added or removed for one of the copies would be so for all.
    """
    if parametrize.is_parametrized(owner):
        cls = type(owner)
        content = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
        owner.__class__ = type(cls.__name__, cls.__bases__, content)


def _masked(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Mask]]:
    """Yield dotted name, owner, name and mask of every pruned weight."""
    for path, owner in module.named_modules():
        for name, steps in getattr(owner, "parametrizations", {}).items():
            if isinstance(steps[0], Mask):
                yield f"{path}.{name}" if path else name, owner, name, steps[0]
