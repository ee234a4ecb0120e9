"""What runs are called: by what was trained on what, and what the command line changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Settings that say where data come from, and names of files that say nothing of what is in them.
_SOURCES = ("data.path", "data.train")
_NAMELESS = ("data", "input", "text", "train")
# Settings that a reader of many runs does not look for: they say where records go, not what was done.
UNTOLD = ("name", "seed", "resume", "preemption", "tags", "threads", "run_dir", "paths.", "logger", "debug", "hydra.")
_MOST_CHARACTERS = 128  # of a name or group in W&B


def name_of(config: dict[str, Any], given: Sequence[str]) -> str:
    """Return the name of a run: its experiment's, unless the command line says `name=` or other data.

    Data of one's own stand in place of the experiment's last part: `experiment=char_lm/tinyshakespeare
    data.path=books/emma.txt` is 'char_lm/emma'.

    Args:
        config: the resolved configuration.
        given: `key=value` words of the command line.
    """
    keys = {_key(word) for word in given}
    for source in _SOURCES if "name" not in keys else ():
        value = config["data"].get(source.removeprefix("data."))
        if source in keys and isinstance(value, str) and (stem := _stem(value)):
            return f"{config['name'].partition('/')[0]}/{stem}"
    return config["name"]


def title_of(config: dict[str, Any]) -> str:
    """Return 'addition/lstm seed=1 rnn.hidden_size=64': name, seed and what else the command line changed."""
    words = [word for word in config["provenance"].get("overrides", ()) if not _key(word).startswith(UNTOLD)]
    told = [word for word in words if word != f"experiment={config['name']}"]
    return _cut(" ".join([config["name"], f"seed={config['seed']}", *told]))


def group_of(config: dict[str, Any]) -> str:
    """Return what runs are gathered under: the directory of their sweep, below the root of all runs, or their name."""
    sweep = config["provenance"].get("sweep")
    if sweep is None:
        return _cut(config["name"])
    root, path = Path(config["paths"]["root"]).absolute(), Path(sweep).absolute()
    return _cut(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _stem(path: str) -> str:
    """Return the last part of a path that names something, without its endings; 'books' of 'books/*.txt'."""
    for part in reversed(Path(path).parts):
        stem = part.partition(".")[0]
        if stem and stem not in (*_NAMELESS, "/") and not set("*?[") & set(stem):
            return stem
    return ""


def _cut(name: str) -> str:
    return name if len(name) <= _MOST_CHARACTERS else f"{name[: _MOST_CHARACTERS - 3]}..."
