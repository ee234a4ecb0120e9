"""The one way from configuration to objects."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError

ALLOWED = ("rnnlab.", "torch.", "lightning.")

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
        checked: whether plain values are compared with annotations; False for what is tried out before training.

    Raises:
        UsageError: a target lies outside `ALLOWED` and all plugins, does not exist, or refuses its arguments; or a
            value is not of the plain type that a constructor of ours or of a plugin is annotated with.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    allowed = (*ALLOWED, *plugins.prefixes())
    for target in _targets(config):
        if not target.startswith(allowed):
            hint = f"for a package of your own add plugins=[{target.partition('.')[0]}]"
            raise UsageError(f"_target_ '{target}' is not allowed; targets begin with {', '.join(allowed)}; {hint}")
    if checked:
        _check_types(config, allowed)
    try:
        return hydra_instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise UsageError(f"{config.get('_target_', 'configuration')}: {root_cause(error)}") from error


def _check_types(config: Any, allowed: tuple[str, ...]) -> None:
    """Refuse values that a constructor would take for what they are not: 'no' is not false, and null no number."""
    if isinstance(config, list):
        for value in config:
            _check_types(value, allowed)
    if not isinstance(config, dict):
        return
    annotations = _annotations(config["_target_"]) if _is_own(config.get("_target_"), allowed) else {}
    for name, value in config.items():
        _check_types(value, allowed)
        types, words = _TAKES.get(annotations.get(name, ""), ((), ""))
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise UsageError(f"{name} must be {words}, got {value!r}")


def _is_own(target: Any, allowed: tuple[str, ...]) -> bool:
    return isinstance(target, str) and target.startswith(allowed) and not target.startswith(("torch.", "lightning."))


def _annotations(target: str) -> dict[str, str]:
    """Return how the parameters of a target are annotated, as text; nothing of what cannot be looked up."""
    from hydra.utils import get_object

    try:
        parameters = inspect.signature(get_object(target)).parameters
    except Exception:  # Hydra tells what is wrong with it
        return {}
    return {
        name: parameter.annotation if isinstance(parameter.annotation, str) else parameter.annotation.__name__
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, str | type)
    }


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
