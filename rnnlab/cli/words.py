"""Words of the command line, `key=value`: one grammar for all verbs.

It is Hydra's, in which `2016` is a number, `[1,2]` a list and `null` nothing. A value that Hydra cannot read is the
text that was typed, as `data.column=#Passengers` or `data.path=sales(1).csv`, and so is an item of a plain list, as
`data.table.targets=[größe]`. Any other that begins like a list, a dictionary, a quoted text or an interpolation is
likelier a slip, and refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import groups, options

_STRUCTURE = ("[", "{", "'", '"', "${")


def last(words: Iterable[str], key: str) -> str | None:
    """Return the value, as typed, of the last word that gives `key` one; None where none does."""
    return next((word.partition("=")[2] for word in reversed(list(words)) if word.startswith(f"{key}=")), None)


def quoted(key: str, value: str) -> str:
    """Return the word that gives `key` the text `value`, whatever Hydra's grammar would make of it."""
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def readable(word: str, sweeps: bool = False) -> str:
    """Return a word as Hydra can read it: as it is, or its value quoted.

    Args:
        word: as typed; one without `=`, and an option of Hydra's own as `--config-dir=DIR`, stays as it is.
        sweeps: commas part the values of a sweep, `glob(...)` becomes the names of the files that it means, and
            `seed=0:5` five seeds from 0.

    Raises:
        UsageError: it cannot be read, with the way to quote it; or a `glob(...)` means nothing.
    """
    key, separator, value = word.partition("=")
    if not separator or not re.match(r"[\w+~]", key):
        return word
    if sweeps and key == "seed":
        word = f"{key}={','.join(map(_range, value.split(',')))}"
    override = _parse(word)
    if override is not None:
        is_glob = sweeps and isinstance(override.value(), Glob)
        return f"{key}={','.join(_matching(override))}" if is_glob else word
    if items := re.fullmatch(r"\[([^][(){}'\"$]*)\]", value):
        return f"{key}=[{','.join(map(_text, items[1].split(',')))}]"
    parts = value.split(",") if sweeps else [value]
    if value.startswith(_STRUCTURE) or (len(parts) > 1 and any(mark in value for mark in "[](){}'\"")):
        raise UsageError(f"{key}: {value!r} cannot be read; {_advice(key, value)}")
    return f"{key}={','.join(_text(part) for part in parts)}"


def _range(value: str) -> str:
    """Return '2,3,4' for '2:5', and everything else as it is."""
    bounds = re.fullmatch(r"(\d+):(\d+)", value)
    if not bounds:
        return value
    numbers = range(int(bounds[1]), int(bounds[2]))
    if not numbers:
        raise UsageError(f"seed={value} is no seed: it ends before it begins, as 0:5 are five seeds from 0")
    return ",".join(map(str, numbers))


def read(word: str) -> Any:
    """Return the value of a `key=value` word, plain data; an interpolation stays a text.

    Raises:
        UsageError: it cannot be read, or is a sweep.
    """
    override = _parse(readable(word))
    key, _, value = word.partition("=")
    if override is None or override.is_sweep_override():
        raise UsageError(f"{key}: {value!r} is several values; a list is [a,b], and {_advice(key, value)}")
    return _plain(override.value())


def _parse(word: str) -> Override | None:
    """Return what Hydra reads in a word, None if it cannot read it."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _text(value: str) -> str:
    """Return one value of a sweep, quoted where Hydra could not read it."""
    return value if _parse(f"key={value}") is not None else quoted("", value)[1:]


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _advice(key: str, value: str) -> str:
    return f"a text is quoted, {shlex.quote(quoted(key, value))}"


def _matching(override: Override) -> list[str]:
    """Return the options of a group that a `glob(...)` means; unlike Hydra's own, those in folders too.

    Raises:
        UsageError: there is no such group, or no such option.
    """
    group, glob = override.key_or_group, override.value()
    if group not in groups():
        raise UsageError(f"{override.input_line}: glob chooses among the options of a group, {group} is none")

    def is_one(name: str, patterns: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    names = [name for name in options(group) if is_one(name, glob.include) and not is_one(name, glob.exclude)]
    if not names:
        raise UsageError(f"{override.input_line}: no {group} is called so; there are {', '.join(options(group))}")
    return names
