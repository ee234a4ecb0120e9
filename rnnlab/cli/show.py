"""`rnnlab show`: an experiment as it would run, and what in it differs from the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnnlab.cli.compose import compose, flatten
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import head
from rnnlab.cli.list import told
from rnnlab.cli.options import flag
from rnnlab.cli.sweeping import without_flags
from rnnlab.cli.words import readable


def main(words: list[str]) -> int:
    """Run `rnnlab show experiment=NAME [key=value ...] [parameters=true]` and return the exit code.

    With `parameters=true` data and model are built, and the numbers that are trained counted.
    """
    counts = [word for word in words if word.startswith("parameters=")]
    counted = bool(counts) and flag("parameters", counts[-1].partition("=")[2])
    words = [readable(word) for word in without_flags([word for word in words if word not in counts])]
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(f"expected key=value, got '{word}'")
    config, own = compose(words)
    experiment = own["runtime"]["choices"]["experiment"]
    print("\n".join([experiment or "no experiment", *told(_head(experiment, own))]))
    print("\ndiffers from the defaults:")
    print("\n".join(_differences(config, compose([])[0])) or "  in nothing")
    print(f"\nconfiguration:\n{_indented(config)}")
    if counted:
        print(f"\n{_parameters(config):,} parameters")
    return 0


def _head(experiment: str | None, own: dict[str, Any]) -> dict[str, str]:
    """Return what an experiment says of itself, wherever Hydra has found it."""
    folders = [Path(source["path"]) for source in own["runtime"]["config_sources"] if source["schema"] == "file"]
    paths = (folder / "experiment" / f"{experiment}.yaml" for folder in folders)
    return next((head(path) for path in paths if path.is_file()), {})


def _differences(config: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Return a line for each key that is there only, or has another value."""
    now, usual = flatten(config), flatten(defaults)
    lines = []
    for key in dict.fromkeys([*now, *usual]):
        if key not in now:
            lines.append(f"  {key}: left out (default {usual[key]})")
        elif key not in usual:
            lines.append(f"  {key}: {now[key]}")
        elif now[key] != usual[key]:
            lines.append(f"  {key}: {now[key]} (default {usual[key]})")
    return lines


def _indented(config: dict[str, Any]) -> str:
    import yaml

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return "\n".join(f"  {line}" for line in text.splitlines())


def _parameters(config: dict[str, Any]) -> int:
    from rnnlab.cli.build import build

    return sum(parameter.numel() for parameter in build(config).task.model.parameters() if parameter.requires_grad)
