"""The one way from configuration to objects."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError, nearest

ALLOWED = ("rnnlab.", "torch.", "lightning.", "optuna.")

# What a parameter annotated by one of these plain types takes. A name may look like a number.
_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "str": ((str, int, float), "text"),
}


def instantiate(config: dict[str, Any], checked: bool = True) -> Any:
    """Build what a plain configuration describes by `_target_` and `_partial_`.

    Args:
        config: plain data; nested containers reach the constructor as plain lists and dicts.
        checked: whether names and plain values are compared with those of the constructor and its annotations; False
            for what is tried out before training.

    Raises:
        UsageError: a target lies outside `ALLOWED` and all plugins, does not exist, or refuses its arguments; or a
            constructor of ours or of a plugin has no such argument, or is annotated with another plain type.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    allowed = (*ALLOWED, *plugins.prefixes())
    for target in _targets(config):
        if not target.startswith(allowed):
            hint = f"for a package of your own add plugins=[{target.partition('.')[0]}]"
            raise UsageError(f"_target_ '{target}' is not allowed; targets begin with {', '.join(allowed)}; {hint}")
    if checked:
        _check_arguments(config, allowed)
    try:
        return hydra_instantiate(config, _convert_="all")
    except InstantiationException as error:
        target = str(config.get("_target_", "configuration"))
        of = "" if target.startswith("rnnlab.sweeps.") else f"{target}: "  # a launcher's settings say whose they are
        raise UsageError(f"{of}{root_cause(error)}") from error


def _check_arguments(config: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what a constructor does not know, and values that it would take for what they are not.

    'no' is not false, and null no number.
    """
    if isinstance(config, list):
        for value in config:
            _check_arguments(value, allowed)
    if not isinstance(config, dict):
        return
    target = config.get("_target_")
    parameters = _parameters(target) if _is_own(target, allowed) else {}
    takes_any = not parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    for name, value in config.items():
        _check_arguments(value, allowed)
        if name not in parameters and not takes_any and not name.startswith("_"):
            raise UsageError(f"{target.rpartition('.')[2]} has no setting {name!r}{nearest(name, parameters)}")
        types, words = _TAKES.get(_annotation(parameters.get(name)), ((), ""))
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise UsageError(f"{name} must be {words}, got {value!r}")


def _is_own(target: Any, allowed: tuple[str, ...]) -> bool:
    return isinstance(target, str) and target.startswith(allowed) and not target.startswith(ALLOWED[1:])


def _parameters(target: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a target by name; none of what cannot be looked up."""
    from hydra.utils import get_object

    try:
        return inspect.signature(get_object(target)).parameters
    except Exception:  # Hydra tells what is wrong with it
        return {}


def _annotation(parameter: inspect.Parameter | None) -> str:
    """Return how a parameter is annotated, as text; nothing of what is no name of a type."""
    annotation = None if parameter is None else parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def root_cause(error: BaseException) -> BaseException:
    """Return the exception that began a chain of causes: the one whose message says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        config = config.values()
    if not isinstance(config, str):
        for value in config if hasattr(config, "__iter__") else ():
            yield from _targets(value)
