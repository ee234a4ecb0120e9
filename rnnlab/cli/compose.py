"""Hydra, and what its complaints mean: composing `conf/` for one job or a sweep."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import rnnlab
from rnnlab.cli.errors import UsageError, nearest


def conf_dir() -> Path:
    """Return the folder of the configuration: inside the installed package, or at the root of a clone."""
    package = Path(rnnlab.__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def run_jobs(words: list[str], job: Callable[[dict[str, Any]], None]) -> None:
    """Let Hydra compose the configuration from command-line words and call `job` for each one, once or in a sweep.

    Args:
        words: everything after the verb; Hydra's own flags (`-m`, `--cfg job`, ...) work too.
        job: takes the resolved configuration as plain data.

    Raises:
        UsageError: an option, group or override does not exist or cannot be read.
    """

    failures: list[Exception] = []

    def task(config: DictConfig) -> None:
        sys.argv = [argv[0], "train", *words]  # the command that a run notes down
        try:
            job(to_plain(config))
        except Exception as error:  # kept from Hydra, which would print lines of its own about it
            failures.append(error)

    argv, sys.argv = sys.argv, ["rnnlab train", *words]  # what Hydra parses, and calls itself in its messages
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"  # raise, print nothing
    try:
        hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error, words)) from error
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    if failures:
        raise failures[0]


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Return a resolved configuration as plain data.

    Raises:
        UsageError: a value is missing or an interpolation leads nowhere.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UsageError(f"{', '.join(missing)} must be given, for example {missing[0]}=VALUE")
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(str(error)) from error


def explain(error: Exception, words: Iterable[str] = ()) -> str:
    """Return one line about what Hydra could not compose of these words, with the nearest valid names."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = _group_and_option(error.missing_cfg_file)
        return (
            f"no {group} is called '{option}'{nearest(option, options(group))}; there are {', '.join(options(group))}"
        )
    match = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if match:
        key = match.group(1).split("@")[0]
        hint = f"`rnnlab train --cfg job` shows all, +{key}= adds one"
        return f"no setting is called '{key}'{nearest(key, settings(words))}; {hint}"
    return text


def options(group: str) -> list[str]:
    """Return the names of a group's files, such as 'addition/lstm' of 'experiment'."""
    folder = conf_dir() / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def groups() -> list[str]:
    """Return the names of all groups."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def settings(words: Iterable[str] = ()) -> list[str]:
    """Return every key of the configuration under the groups that `words` choose, and the groups themselves."""
    known = groups()
    choices = [word for word in words if word.partition("=")[0] in known]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = hydra.compose("train", overrides=choices)
        except HydraException:  # choices of a sweep
            config = hydra.compose("train")
    return sorted(
        key for key in {*flatten(OmegaConf.to_container(config)), *known} if not key.rsplit(".", 1)[-1].startswith("_")
    )


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested dictionary as one of dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def override(config: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Return a copy of a plain configuration changed by `key=value` words.

    Raises:
        UsageError: a word is no assignment, names a key that the configuration does not have, or a value that is no
            YAML.
    """
    known = flatten(config)
    words = list(words)
    for word in words:
        key, separator, _ = word.partition("=")
        if not separator:
            raise UsageError(f"expected key=value, got '{word}'")
        if key not in known:
            names = [name for name in known if not name.rsplit(".", 1)[-1].startswith("_")]
            raise UsageError(f"no setting of this run is called '{key}'{nearest(key, names)}")
    try:
        changes = OmegaConf.from_dotlist(words)
    except yaml.YAMLError as error:
        raise UsageError(f"cannot read the values of {' '.join(words)}: {error}") from error
    return to_plain(OmegaConf.merge(OmegaConf.create(config), changes))


def _group_and_option(missing: str) -> tuple[str, str, str]:
    """Split 'experiment/addition/lsmt' into its group and the rest."""
    group, separator, option = missing.strip("/").partition("/")
    return group, separator, option
