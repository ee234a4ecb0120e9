"""Hydra, and what its complaints mean: composing `conf/`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import conf_dir, groups, options
from rnnlab.cli.words import last, read


def run(words: list[str], job: Callable[[dict[str, Any]], None]) -> None:
    """Let Hydra compose the configuration from command-line words and call `job` for it.

    Args:
        words: everything after the verb, readable; Hydra's own flags (`--cfg job`, `--config-dir`, ...) work too.
        job: takes the resolved configuration as plain data.

    Raises:
        UsageError: an option, group or override does not exist or cannot be read.
    """
    failures: list[Exception] = []
    named = _open_plugins(words)

    def task(config: DictConfig) -> None:
        sys.argv = [argv[0], "train", *words]  # the command that a run notes down
        try:
            job(composed(config, named))
        except Exception as error:
            failures.append(error)  # kept from Hydra, which would print lines of its own about it

    argv, sys.argv = sys.argv, ["rnnlab train", *words]  # what Hydra parses, and calls itself in its messages
    full_error, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"  # raise, print nothing
    try:
        with _explained(words):
            hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")(task)()
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    for failure in failures:
        raise failure


def compose(words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `run` would call its job with, and Hydra's own part of the configuration.

    Raises:
        UsageError: as `run`.
    """
    named = _open_plugins(words)
    with _explained(words), hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides=words, return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # which `${hydra:...}` asks
        own = OmegaConf.to_container(config.hydra, resolve=False)
        with open_dict(config):
            del config["hydra"]
        return composed(config, named), own


def _open_plugins(words: Sequence[str]) -> list[str]:
    """Open the plugins that a command line names to Hydra, and return their names."""
    plugins.open_conf(named := plugins_of(words))
    return plugins.check_names(named)


def plugins_of(words: Sequence[str]) -> Any:
    """Return what a command line says of `plugins`, None if nothing."""
    given = last(words, "plugins")
    return None if given is None else read(f"plugins={given}")


@contextmanager
def _explained(words: list[str]) -> Iterator[None]:
    """Turn Hydra's complaints into one line."""
    try:
        yield
    except UsageError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UsageError(explain(error, words)) from error


def composed(config: DictConfig, named: Sequence[str] = ()) -> dict[str, Any]:
    """Return a configuration that Hydra composed as plain data.

    Args:
        config: with all that a run needs.
        named: the plugins that the command line names, which alone may let code in.

    The `hidden_size` of a layer, `rnn` or one within `model`, sizes a cell that is configured apart, its `cell`, by
    interpolation, and is no setting beside it.

    Raises:
        UsageError: as `to_plain`, or a part is missing that a run needs, or one is there that nothing reads, or a file
            names a plugin.
    """
    needed, unresolved = _parts(), str(config)
    for key in needed - config.keys():
        choices = f"={'|'.join(options(key))}" if key in groups() else "=VALUE"
        raise UsageError(f"{key} cannot be left out: give {key}{choices}")
    for key in config.keys() - needed:
        if not re.search(rf"\$\{{{re.escape(str(key))}\b", unresolved):
            raise UsageError(f"nothing reads {key}{nearest(str(key), needed)}")
    plain = to_plain(config)
    if others := [name for name in plugins.check_names(plain["plugins"]) if name not in named]:
        raise UsageError(
            f"plugins let code in, and only the command line may: add plugins=[{','.join([*named, *others])}]"
        )
    for layer in (plain["rnn"], *(plain["model"] or {}).values()):
        if isinstance(layer, dict) and isinstance(layer.get("cell"), dict):
            layer.pop("hidden_size", None)
    return plain


def _parts() -> set[str]:
    """Return the keys at the top of every configuration: those of train.yaml, and the groups it always chooses from."""
    primary = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
    chosen = {group for entry in primary["defaults"] if isinstance(entry, dict) for group in entry}
    return ({*primary, *chosen} & {*groups(), *primary}) - {"defaults", "hydra", "experiment", "debug"}


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
        group, _, option = error.missing_cfg_file.strip("/").partition("/")
        if group == "hydra" and option.startswith("launcher/"):
            group, option = "hydra/launcher", option.removeprefix("launcher/")
        if group in (*groups(), "hydra/launcher"):  # and not another one of Hydra's own
            there = options(group)
            return f"no {group} is called '{option}'{nearest(option, there)}; there are {', '.join(there)}"
    if text.startswith("Config group override must be"):
        for key, _, value in (word.partition("=") for word in words):
            if key in groups() and not isinstance(read(f"{key}={value}"), str | list):
                return f"{key}={value}: an option is needed, {' or '.join(options(key))}"
    match = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if match:
        key, _, place = match.group(1).partition("@")
        if place:
            return f"nothing is chosen at {key}@{place} here: +{key}@{place}=OPTION adds one"
        if key.startswith("hydra.launcher."):
            return (
                f"this launcher has no setting '{key}'{nearest(key, _launcher_settings())}; conf/README.md lists them"
            )
        hint = f"`rnnlab train --cfg job` shows all, +{key}= adds one"
        return f"no setting is called '{key}'{nearest(key, settings(words))}; {hint}"
    return text


def _launcher_settings() -> list[str]:
    """Return the keys of all launchers."""
    files = (conf_dir() / "hydra" / "launcher").glob("*.yaml")
    keys = {key for path in files for key in yaml.safe_load(path.read_text(encoding="utf-8"))}
    return sorted(f"hydra.launcher.{key}" for key in keys if key not in ("_target_", "defaults"))


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
        UsageError: a word is no assignment, names a key that the configuration does not have, or has no readable value.
    """
    known = flatten(config)
    changed = OmegaConf.create(config)
    for word in words:
        key, separator, _ = word.partition("=")
        if not separator:
            raise UsageError(f"expected key=value, got '{word}'")
        if key not in known:
            names = [name for name in known if not name.rsplit(".", 1)[-1].startswith("_")]
            raise UsageError(f"no setting of this run is called '{key}'{nearest(key, names)}")
        OmegaConf.update(changed, key, read(word))
    return to_plain(changed)
