"""Packages of one's own, opened to the command line by `plugins=[mylab]`.

A plugin is importable from the working directory or installed. Its modules may then be named by `_target_`, and its
folder `conf`, if it has one, adds options to the groups of `conf/`. A run notes its plugins in config.yaml, and every
verb that reads the run imports them again. Nothing is imported that was not named.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnnlab.cli.errors import UsageError

_imported: list[str] = []
_conf_dirs: list[Path] = []
_folders: dict[str, Path] = {}


def check_names(names: Any) -> list[str]:
    """Return the names of packages, one or a list.

    Raises:
        UsageError: they are no names of packages, or of packages that are nobody's plugin.
    """
    names = names if isinstance(names, list) else [] if names is None else [names]
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"plugins takes names of Python packages, such as plugins=[mylab], got {name!r}")
        if name in sys.stdlib_module_names or name in ("rnnlab", "rnnlab_kernels"):
            raise UsageError(f"plugins takes packages of your own: '{name}' comes with Python or rnnlab")
    return names


def load(names: Any) -> None:
    """Import plugins.

    Raises:
        UsageError: one is not found or cannot be imported, with the reason.
    """
    for name in check_names(names):
        _find(name)
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever their code raises
            raise UsageError(f"plugin '{name}' cannot be imported: {type(error).__name__}: {error}") from error
        if name not in _imported:
            _imported.append(name)


def prefixes() -> tuple[str, ...]:
    """Return what the `_target_`s of imported plugins begin with."""
    return tuple(f"{name}." for name in _imported)


def open_conf(names: Any) -> None:
    """Let Hydra find the options in the `conf` folders of plugins.

    Nothing is imported: that is done once the configuration is composed and says so, too.
    """
    from hydra.core.plugins import Plugins

    find_conf(names)
    Plugins.instance().register(_search_path())


def find_conf(names: Any) -> None:
    """Note the `conf` folders of plugins, for `rnnlab.cli.groups`."""
    _conf_dirs.clear()
    _folders.clear()
    for name in check_names(names):
        found = _find(name).submodule_search_locations or ()
        for place in found:
            _folders[name] = Path(place)
        _conf_dirs.extend(path for place in found if (path := Path(place) / "conf").is_dir())


def folders() -> dict[str, Path]:
    """Return where the plugins of the last `open_conf` are, by name."""
    return dict(_folders)


def conf_dirs() -> list[Path]:
    """Return the folders that `open_conf` found."""
    return list(_conf_dirs)


def _find(name: str) -> Any:
    """Return where a module is, looked for in the working directory last."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    spec = find_spec(name)
    if spec is None:
        raise UsageError(f"no plugin '{name}': it is neither installed nor in the working directory {here}")
    return spec


@cache  # Hydra knows its plugins by their class
def _search_path() -> type:
    """Return what adds the folders to Hydra's search path, each time it is made."""
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class PluginConf(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            for folder in _conf_dirs:
                search_path.append(provider=folder.parent.name, path=f"file://{folder}")

    return PluginConf
