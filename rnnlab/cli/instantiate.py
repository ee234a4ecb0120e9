"""The one way from configuration to objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError

ALLOWED = ("rnnlab.", "torch.", "lightning.")


def instantiate(config: dict[str, Any]) -> Any:
    """Build what a plain configuration describes by `_target_` and `_partial_`.

    Args:
        config: plain data; nested containers reach the constructor as plain lists and dicts.

    Raises:
        UsageError: a target lies outside `ALLOWED` and all plugins, does not exist, or refuses its arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    allowed = (*ALLOWED, *plugins.prefixes())
    for target in _targets(config):
        if not target.startswith(allowed):
            hint = f"for a package of your own add plugins=[{target.partition('.')[0]}]"
            raise UsageError(f"_target_ '{target}' is not allowed; targets begin with {', '.join(allowed)}; {hint}")
    try:
        return hydra_instantiate(config, _convert_="all")
    except InstantiationException as error:
        raise UsageError(f"{config.get('_target_', 'configuration')}: {root_cause(error)}") from error


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
