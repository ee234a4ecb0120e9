"""`rnnlab VERB ...`: choose the verb, and turn what goes wrong into one line and an exit code.

Nothing heavy is imported here, so that help and a mistyped verb answer at once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from rnnlab import __version__
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import questions
from rnnlab.cli.stopping import Terminated
from rnnlab.cli.threads import let_threads_sleep
from rnnlab_kernels.cache import use_node_local_cache

# What a verb does, and its options.
VERBS = {
    "train": ("train a model", "[experiment=NAME] [key=value ...] [run_dir=DIR [resume=true|auto]] [-m] [--cfg job]"),
    "search": (
        "search for a better configuration, with Optuna",
        "experiment=NAME search=NAME [search.trials=N] [search.KEY=VALUE] [key=interval(LOW,HIGH)|range(FROM,TO)|"
        "choice(A,B) ...] [key=value ...] [sweep_dir=DIR] [max_jobs=N]",
    ),
    "sweep": (
        "go on with a sweep: what is not finished, from where it was",
        "resume DIR [max_jobs=N] [retry_failed=true] [skip_finished=false] [hydra/launcher=NAME] "
        "[hydra.launcher.KEY=VALUE]",
    ),
    "evaluate": ("measure a trained run again", "run_dir=DIR [ckpt=best|last|FILE] [backtest.folds=N] [key=value ...]"),
    "predict": (
        "answer the lines of a file, or sounds",
        "run_dir=DIR input=FILE|FOLDER|- output=FILE|- [n_best=N] [beam=K] [times=true] [ckpt=best|last|FILE] "
        "[encoding=utf-8]",
    ),
    "sample": (
        "let a character model write",
        "run_dir=DIR [prompt=TEXT | prompts=FILE] [length=500] [temperature=0.8] [top_k=K] [top_p=P] [stop=TEXT] "
        "[seed=0] [num_samples=1] [beam=K [length_penalty=0]] [output=FILE] [ckpt=best|last|FILE]",
    ),
    "diagnose": (
        "draw what a run has learned",
        "run_dir=DIR [input=FILE [encoding=utf-8]] [length=1000] [ckpt=best|last|FILE]",
    ),
    "report": (
        "gather sweeps and runs into one table, seeds as mean and deviation",
        "DIR... [by=KEY,KEY] [metric=test/NAME] [format=table|csv|md] [rows=configurations|runs] [output=FILE] "
        "[picture=FILE.png|none]",
    ),
    "export": (
        "write a run's network as ONNX or a program of torch.export, compared with it at other sizes",
        "run_dir=DIR format=onnx|pt2 output=FILE [ckpt=best|last|FILE]",
    ),
    "study": (
        "measure what theory says of recurrent networks; without a name, list the studies",
        "[NAME out=DIR [seed=0]]",
    ),
    "bench": (
        "time layers against torch.nn, or a cell against a plain loop",
        "[cell=NAME] [rounds=20] [output=FILE.json]",
    ),
    "list": ("list experiments: question, expected numbers and time", "[PATTERN] [plugins=[NAME]]"),
    "show": (
        "show an experiment as it would run, and what differs from the defaults",
        "experiment=NAME [key=value ...] [parameters=true]",
    ),
    "completion": ("print what lets a shell complete words", "bash|zsh|fish"),
    "doctor": ("tell what this machine can run, and what will not work", ""),
}

HELP = f"""rnnlab {__version__}: a laboratory for recurrent networks

usage: rnnlab VERB [key=value ...] [--debug]

{chr(10).join(f"  {verb:<12}{text}" for verb, (text, _) in VERBS.items())}

  rnnlab VERB --help                 the options of a verb
  rnnlab train experiment=addition/lstm rnn.hidden_size=256 seed=0
  rnnlab train --cfg job             show the whole configuration
  rnnlab train -m seed=0:3 sweep_dir=DIR   sweep; the same again goes on with it
  rnnlab train run_dir=DIR resume=true   go on with a run that was killed
  --debug                            full traceback when something fails
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 done, 2 bad input, 130 Ctrl-C, 128 and its number a
    signal, as 143 SIGTERM, 1 any other failure."""
    argv = list(sys.argv[1:] if argv is None else argv)
    wants_all, looks = "--debug" in argv, any(word.startswith("debug=") for word in argv)
    argv = [word for word in argv if word != "--debug"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    verb, words = argv[0], argv[1:]
    try:
        if verb not in VERBS:
            raise UsageError(f"unknown verb '{verb}'{nearest(verb, VERBS)}; verbs are {', '.join(VERBS)}")
        if "-h" in words or "--help" in words:
            text, options = VERBS[verb]
            print(f"usage: rnnlab {verb} {options}".rstrip() + f"\n\n{text}")
            if verb == "train":
                print(f"\nexperiments:\n{_experiments()}\n\nconf/README.md has the other groups; --cfg job shows all")
            return 0
        use_node_local_cache()
        let_threads_sleep()
        return import_module(f"rnnlab.cli.{verb}").main(words)
    except KeyboardInterrupt as stop:
        name, code = ("terminated", stop.code) if isinstance(stop, Terminated) else ("interrupted", 130)
        print("; ".join([f"rnnlab: {name}", *map(str, stop.args)]), file=sys.stderr)
        return code
    except BrokenPipeError:  # whoever reads has seen enough, as in `rnnlab sample ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere, without complaint
        return 128 + 13  # as if ended by the signal of a broken pipe
    except Exception as error:
        if wants_all or (looks and not isinstance(error, UsageError)):  # what a UsageError says is all there is
            raise
        return report(error)


def _experiments() -> str:
    """Return a line for each experiment: its name and its question."""
    asked = questions()
    width = max(map(len, asked))
    return "\n".join(f"  {name:<{width}}  {question}".rstrip() for name, question in asked.items())


def report(error: Exception) -> int:
    """Print one line about an error to stderr and return the exit code it means."""
    text, code = explain(error)
    print(f"rnnlab: {text}", file=sys.stderr)
    return code


def explain(error: Exception) -> tuple[str, int]:
    """Return one line about an error, and the exit code it means."""
    if isinstance(error, UsageError):
        return str(error), 2
    return f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows the traceback)", 1


if __name__ == "__main__":
    sys.exit(main())
