"""`rnnlab sample`: let a character model write."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.options import check_apart, check_output, files_of_run, label_number, take

if TYPE_CHECKING:
    from torch import nn

    from rnnlab.data.vocabulary import Vocabulary

# Options that are numbers, and their defaults: those of both ways to write, of drawing, and of searching.
_SAMPLING = {"temperature": 0.8, "top_k": None, "top_p": None, "seed": 0, "num_samples": 1}
_BEAM = {"beam": None, "length_penalty": 0.0}
_NUMBERS: dict[str, Any] = {"length": 500, **_SAMPLING, **_BEAM}
_OPTIONS = (*_NUMBERS, "prompt", "prompts", "stop", "label", "output", "ckpt", "encoding")


def main(words: list[str]) -> int:
    """Run `rnnlab sample` and return the exit code.

    Words: run_dir=DIR [label=NAME] [prompt=TEXT | prompts=FILE] [length=500] [temperature=0.8] [top_k=K] [top_p=P]
    [stop=TEXT] [seed=0] [num_samples=1] [beam=K [length_penalty=0]] [output=FILE] [ckpt=best|last|FILE]
    [encoding=utf-8] [key=value overrides].
    An option with nothing behind its `=` is as good as not given.

    `prompt` and `stop` are taken as the shell hands them over: no escapes are interpreted, so that a backslash is a
    backslash, and a line break is typed as the shell wants it, prompt=$'first\\nsecond' in bash. `prompts` has one
    prompt a line, and an empty line is an empty prompt. `length` counts the characters behind the prompt.

    One sample is shown while it is written; several are written side by side and shown one after the other. `beam`
    shows the most likely continuation that a beam of this width finds, in place of samples.
    """
    options, overrides = take(words, required=("run_dir",), optional=_OPTIONS)
    for key in (word.partition("=")[0] for word in overrides):
        if "." not in key:
            raise UsageError(f"sample has no option '{key}'{nearest(key, ('run_dir', *_OPTIONS))}")
    options = {name: value for name, value in options.items() if value or name == "run_dir"}
    numbers = _read_numbers(options)
    target = check_output(options["output"]) if options.get("output", "-") != "-" else None
    prompts, stop = _read_prompts(options), options.get("stop")
    run_dir, ckpt = Path(options["run_dir"]), options.get("ckpt", "best")
    if target is not None:
        from rnnlab.data.files import places_of

        asked = places_of(options["prompts"]) if "prompts" in options else []
        check_apart(target, [*files_of_run(run_dir, ckpt), *asked])
    write(run_dir, ckpt, overrides, prompts, stop, numbers, target, options.get("label"))
    return 0


def write(
    run_dir: Path,
    ckpt: str,
    overrides: list[str],
    prompts: list[str],
    stop: str | None,
    numbers: Mapping[str, Any],
    target: Path | None,
    label: str | None = None,
) -> None:
    """Continue prompts, on the screen or in a file.

    Args:
        run_dir, ckpt, overrides: the model, as for `rnnlab.cli.build.load`.
        prompts: what to continue.
        stop: where a text ends before its full length.
        numbers: the options that are numbers, checked, by name.
        target: file that is to hold the texts; None for the screen.
        label: what the model is told that it writes; None if it is told nothing.

    Raises:
        UsageError: no such run, checkpoint, setting or label, a run that is no character model, a label that is missing
            or a `stop` that cannot be written.
    """
    import torch

    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.files import write_text
    from rnnlab.cli.build import load

    data, task, checkpoint = load(run_dir, ckpt, overrides)
    vocabulary = getattr(data, "vocabulary", None)
    if vocabulary is None:
        name = checkpoint["rnnlab"]["config"]["name"]
        kind = f"{type(task).__name__} on {type(data).__name__}"
        raise UsageError(f"run_dir={run_dir} holds a run of {name} ({kind}); sample needs one of a character model")
    stop = stop or getattr(data, "ending", None)
    _check_characters(prompts, stop, vocabulary)
    ending = None if stop is None else vocabulary.encode(stop)
    model = task.model
    number = label_number(label, getattr(data, "labels", ()), getattr(model, "condition", None), needed=True)
    if number is not None:
        model = model.of(torch.tensor([number]))
    if numbers["beam"] is not None:
        texts = [_most_likely(model, vocabulary, prompt, ending, numbers) for prompt in prompts]
    elif target is None and len(prompts) * numbers["num_samples"] == 1:
        _stream(model, vocabulary, prompts[0], ending, numbers)
        return
    else:
        texts = _samples(model, vocabulary, prompts, ending, numbers)
    text = _one_after_the_other(texts, len(prompts))
    if target is None:
        _show(text)
    else:
        write_text(target, text)
        console.print(f"{len(texts)} {'text' if len(texts) == 1 else 'texts'} in {target}", markup=False)


def _read_numbers(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of all options that are numbers.

    Raises:
        UsageError: one is out of range, or means nothing beside the others.
    """
    from rnnlab.decoding.beam import check_beam
    from rnnlab.decoding.sampling import check_integer, check_sampling

    numbers = {name: _number(options[name]) if name in options else default for name, default in _NUMBERS.items()}
    searches = numbers["beam"] is not None
    for name in _SAMPLING if searches else _BEAM:
        if name in options:
            raise UsageError(f"{name}={options[name]} {'does not go with beam=K' if searches else 'needs beam=K'}")
    try:
        check_integer("num_samples", numbers["num_samples"], 1)
        check_sampling(*(numbers[name] for name in ("length", "temperature", "top_k", "top_p", "seed")))
        if searches:
            check_beam(numbers["length"], numbers["beam"], numbers["length_penalty"])
    except ValueError as error:
        raise UsageError(str(error)) from error
    return numbers


def _number(text: str) -> int | float | str:
    """Return the number that a text stands for, or the text itself: the check that follows knows what is allowed."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read_prompts(options: Mapping[str, str]) -> list[str]:
    """Return the one prompt, or those of a file.

    Raises:
        UsageError: both are given, the one is no UTF-8 text, or the file cannot be read.
    """
    if "prompts" not in options:
        prompt = options.get("prompt", "")
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise UsageError(f"prompt must be UTF-8 text, got {prompt!r}")
        return [prompt]
    if "prompt" in options:
        raise UsageError("prompt=TEXT and prompts=FILE do not go together")
    from rnnlab.data.files import read_text

    try:
        _, text = read_text(options["prompts"], "file of prompts", options.get("encoding", "utf-8"))
    except ValueError as error:
        raise UsageError(f"prompts={options['prompts']} cannot be read: {error}") from error
    if not text:
        raise UsageError(f"prompts={options['prompts']} is empty; one prompt a line is needed")
    return text.removesuffix("\n").split("\n")


def _check_characters(prompts: Sequence[str], stop: str | None, vocabulary: Vocabulary) -> None:
    """Say on stderr which characters of the prompts the model does not know.

    Raises:
        UsageError: `stop` has such a character.
    """
    from rnnlab.callbacks.text_samples import outside

    never = outside(stop or "", vocabulary)
    if never:
        raise UsageError(f"stop={stop!r} would never be written: not in the vocabulary: {never}")
    unknown = outside("".join(prompts), vocabulary)
    if unknown:
        print(f"rnnlab: not in the vocabulary, read as unknown: {unknown}", file=sys.stderr)


def _stream(
    model: nn.Module, vocabulary: Vocabulary, prompt: str, ending: list[int] | None, numbers: Mapping[str, Any]
) -> None:
    """Show a prompt, and each character behind it as soon as it is drawn."""
    from rnnlab.decoding import sample

    last = prompt
    try:
        _show(prompt)
        for ids in sample(model, [vocabulary.encode(prompt)], stop=ending, **_drawing(numbers)):
            last = vocabulary.symbols[int(ids)]
            _show(last)
    finally:  # also when interrupted
        _show("" if last.endswith("\n") else "\n")


def _samples(
    model: nn.Module,
    vocabulary: Vocabulary,
    prompts: Sequence[str],
    ending: list[int] | None,
    numbers: Mapping[str, Any],
) -> list[str]:
    """Return prompts with their continuations, all samples of one prompt side by side."""
    from rich.progress import track

    from rnnlab.callbacks.console import console
    from rnnlab.decoding import FINISHED, sample

    texts = [[prompt] for prompt in prompts for _ in range(numbers["num_samples"])]
    rows = [vocabulary.encode(prompt) for (prompt,) in texts]
    steps = sample(model, rows, stop=ending, **_drawing(numbers))
    bar = {"console": console, "transient": True, "disable": not console.is_terminal}
    for ids in track(steps, "characters", total=numbers["length"], **bar):
        for text, index in zip(texts, ids.tolist(), strict=True):
            if index != FINISHED:
                text.append(vocabulary.symbols[index])
    return ["".join(text) for text in texts]


def _drawing(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: numbers[name] for name in ("length", "temperature", "top_k", "top_p", "seed")}


def _most_likely(
    model: nn.Module, vocabulary: Vocabulary, prompt: str, ending: list[int] | None, numbers: Mapping[str, Any]
) -> str:
    """Return a prompt with the best continuation that beam search finds."""
    from rnnlab.decoding import beam_search

    options = {name: numbers[name] for name in ("length", "beam", "length_penalty")}
    best, *_ = beam_search(model, vocabulary.encode(prompt), stop=ending, **options)
    return prompt + "".join(vocabulary.decode(best.ids))


def _one_after_the_other(texts: Sequence[str], num_prompts: int) -> str:
    """Return texts under headings that tell them apart, if there are several; the last line is ended."""
    ended = [text if text.endswith("\n") else f"{text}\n" for text in texts]
    if len(texts) == 1:
        return ended[0]
    num_samples = len(texts) // num_prompts
    result = []
    for index, text in enumerate(ended):
        places = [("prompt", index // num_samples, num_prompts), ("sample", index % num_samples, num_samples)]
        heading = ", ".join(f"{name} {place + 1} of {count}" for name, place, count in places if count > 1)
        result.append(f"--- {heading} ---\n{text}")
    return "".join(result)


def _show(text: str) -> None:
    """Write to stdout at once, with a question mark for what its encoding does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
