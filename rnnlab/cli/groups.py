"""The folder of the configuration: its groups, their options, and what each experiment asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import rnnlab
from rnnlab.cli import plugins


def conf_dir() -> Path:
    """Return the folder of the configuration: inside the installed package, or at the root of a clone."""
    package = Path(rnnlab.__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """Return the names of all groups of a run: neither Hydra's own nor searches."""
    folders = (path.name for path in conf_dir().iterdir() if path.is_dir())
    return sorted(name for name in folders if name not in ("hydra", "search"))


def options(group: str) -> list[str]:
    """Return the names of a group's files, such as 'addition/lstm' of 'experiment', those of plugins too."""
    return sorted(_files(group))


def searches(more: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the files of `rnnlab search search=NAME` by their names, those in further folders of configuration too."""
    return _files("search", more)


def _files(group: str, more: Sequence[Path] = ()) -> dict[str, Path]:
    # rnnlab's own go first, as for Hydra
    folders = [folder / group for folder in (*more, *plugins.conf_dirs(), conf_dir())]
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in folders
        for path in folder.rglob("*.yaml")
    }


def heads() -> dict[str, dict[str, str]]:
    """Return what each experiment says of itself in the comments that its file begins with, by their labels.

    'question', 'command', 'expected', 'hardware', of some 'data'. A line without a label goes on with the one before.
    """
    return {experiment: head(path) for experiment, path in sorted(_files("experiment").items())}


def head(path: Path) -> dict[str, str]:
    """Return what an experiment's file says of itself, as `heads`."""
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if match := re.match(r"# ([a-z]+): +(.*)", line):
            found[match[1]] = match[2].strip()
        elif found and not line.startswith("# @"):
            found[list(found)[-1]] += f" {line.lstrip('# ')}"
    return found


def questions() -> dict[str, str]:
    """Return what each experiment asks; '' where it does not say."""
    return {experiment: head.get("question", "") for experiment, head in heads().items()}
