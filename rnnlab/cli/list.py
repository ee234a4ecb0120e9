"""`rnnlab list`: the experiments, with what they ask, what should come out, and how long it takes."""

from __future__ import annotations

from fnmatch import fnmatchcase

from rnnlab.cli import plugins
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import heads


def main(words: list[str]) -> int:
    """Run `rnnlab list [PATTERN] [plugins=[mylab]]` and return the exit code.

    PATTERN is a part of a name or, with `*`, `?` or `[`, what the whole name is like. Nothing is composed.
    """
    for word in words:
        if word.startswith("plugins="):
            from rnnlab.cli.words import read

            plugins.find_conf(read(word))
    patterns = [word for word in words if not word.startswith("plugins=")]
    if len(patterns) > 1 or any("=" in pattern for pattern in patterns):
        raise UsageError(f"list takes one PATTERN and plugins=[NAME], got {' '.join(words)}")
    pattern = patterns[0] if patterns else ""
    known = heads()
    is_like = any(mark in pattern for mark in "*?[")
    found = [name for name in known if (fnmatchcase(name, pattern) if is_like else pattern in name)]
    if not found:
        raise UsageError(f"no experiment is like '{pattern}'{nearest(pattern, known)}; `rnnlab list` shows all")
    print("\n\n".join("\n".join([name, *told(known[name])]) for name in found))
    return 0


def told(head: dict[str, str]) -> list[str]:
    """Return the lines of what an experiment says of itself."""
    return [f"  {label + ':':<10}{text}" for label, text in head.items()]
