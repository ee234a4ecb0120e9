"""`rnnlab completion SHELL`: tab completion of verbs, options, experiments, groups, keys and files.

The shell hands over the line so far, and gets whole words back. That needs an answer at once: nothing is composed and
nothing heavy imported, keys are read from the files of `conf/` as they stand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import conf_dir, groups, options

SCRIPTS = {
    "bash": r"""# eval "$(rnnlab completion bash)" in ~/.bashrc
_rnnlab() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\n' word prefix=
    word="${line##*[[:space:]]}"
    # What stands before an equals sign is a word of its own to bash.
    [[ "$COMP_WORDBREAKS" == *=* && "$word" == *=* ]] && prefix="${word%"${word##*=}"}"
    COMPREPLY=($(rnnlab completion answer "$line" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *[=/.] ]] && compopt -o nospace
    return 0
}
complete -F _rnnlab rnnlab
""",
    "zsh": r"""#compdef rnnlab
# eval "$(rnnlab completion zsh)" in ~/.zshrc, after compinit
_rnnlab() {
    local -a open whole
    local word
    for word in ${(f)"$(rnnlab completion answer "$LBUFFER" 2>/dev/null)"}; do
        if [[ "$word" == *[=/.] ]]; then open+=("$word"); else whole+=("$word"); fi
    done
    compadd -S '' -- $open
    compadd -- $whole
}
compdef _rnnlab rnnlab
""",
    "fish": r"""# rnnlab completion fish > ~/.config/fish/completions/rnnlab.fish
complete -c rnnlab -f -a '(rnnlab completion answer (commandline -cp) 2>/dev/null)'
""",
}
_PATHS = ("run_dir", "input", "output", "out", "prompts", "sweep_dir", "init_from", "picture", "ckpt", "path")
_DIRECTORIES = ("report", "sweep")  # verbs with words that are directories


def main(words: list[str]) -> int:
    """Run `rnnlab completion bash|zsh|fish` and return the exit code; `completion answer LINE` is what shells ask."""
    if len(words) == 2 and words[0] == "answer":
        print("\n".join(answer(words[1])))
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        given = " ".join(words)
        raise UsageError(f"give one of {', '.join(SCRIPTS)}, got '{given}'{nearest(given, SCRIPTS)}")
    print(SCRIPTS[words[0]], end="")
    return 0


def answer(line: str) -> list[str]:
    """Return the words that the last one of a command line may become; none where nothing is known."""
    from rnnlab.cli.main import VERBS

    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return []
    if not line or line[-1].isspace():
        words.append("")
    if len(words) < 2:
        return []
    _, verb, *rest = words
    if not rest:
        found: Iterable[str] = VERBS
    elif verb not in VERBS:
        return []
    else:
        found = _after(verb, rest[:-1], rest[-1])
    return sorted({word for word in found if word.startswith(words[-1])})


def _after(verb: str, given: list[str], word: str) -> Iterator[str]:
    """Yield words that may stand behind a verb, some of which do not begin as the last word does."""
    from rnnlab.cli.main import VERBS

    key, separator, value = word.partition("=")
    plain, mark = key.lstrip("+~"), key[: len(key) - len(key.lstrip("+~"))]
    if separator:
        before, comma, _ = value.rpartition(",")
        start = f"{key}={before}{comma}"
        if plain in (*groups(), "search", "hydra/launcher"):
            none = ["null"] if plain in groups() else []
            yield from (f"{start}{name}" for name in (*options(plain), *none))
        elif plain.rpartition(".")[2] in _PATHS:
            yield from (f"{key}={path}" for path in _files(value))
        return
    usage = VERBS[verb][1]
    yield from (f"{name}=" for name in re.findall(r"\b([a-z][\w.]*)=", usage))
    yield from (flag for flag in ("-m", "--cfg", "--help", "--debug") if flag in usage or flag in ("--help", "--debug"))
    if verb == "sweep" and not given:
        yield "resume"
    if verb in _DIRECTORIES:
        yield from _files(word)
    if verb == "list":
        yield from options("experiment")
    if verb == "study":
        from rnnlab.studies import QUESTIONS

        yield from QUESTIONS
    if verb == "completion":
        yield from SCRIPTS
    if verb in ("train", "search", "show"):
        yield from (f"{mark}{name}=" for name in (*groups(), *_keys(given)))
    elif run_dir := next((one.partition("=")[2] for one in given if one.startswith("run_dir=")), None):
        yield from (f"{name}=" for name in _flat(_load(Path(run_dir) / "config.yaml")))


def _keys(given: list[str]) -> Iterator[str]:
    """Yield the keys of the configuration: those of train.yaml and of the files that it or these words choose."""
    chosen: dict[str, str] = {}
    primary = _load(conf_dir() / "train.yaml")
    _choose(chosen, primary)
    named = dict(word.partition("=")[::2] for word in given)
    experiment = _load(conf_dir() / "experiment" / f"{named.get('experiment', chosen.get('experiment'))}.yaml")
    _choose(chosen, experiment)
    chosen |= {key: value for key, value in named.items() if key in groups()}
    yield from (key for key in _flat(primary) if not key.startswith("hydra"))
    yield from _flat(experiment)
    yield "run_dir"
    for group, option in chosen.items():
        if group != "experiment":
            yield from _flat(_load(conf_dir() / group / f"{option}.yaml"), f"{group}.")


def _choose(chosen: dict[str, str], file: dict[str, Any]) -> None:
    """Note which options a file's list of defaults chooses."""
    for entry in file.get("defaults") or ():
        if isinstance(entry, dict):
            chosen.update({str(key).removeprefix("override ").lstrip("/"): str(value) for key, value in entry.items()})


def _flat(file: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in file.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif not str(key).startswith("_") and key != "defaults":
            yield f"{prefix}{key}"


def _load(path: Path) -> dict[str, Any]:
    """Return what a file of the configuration holds; nothing of one that is not there or cannot be read."""
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _files(start: str) -> Iterator[str]:
    """Yield the paths that begin so, those of folders with a slash behind."""
    folder, name = start.rpartition("/")[::2]
    place = Path(folder or ("/" if start.startswith("/") else "."))
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return
    shown = start[: len(start) - len(name)]
    for entry in entries:
        if entry.name.startswith(name) and (name.startswith(".") or not entry.name.startswith(".")):
            yield f"{shown}{entry.name}{'/' if entry.is_dir() else ''}"
