"""Two processes with B rows each train as one with 2B rows, whatever the task: weights, losses, metrics.

Equality is asked without dropout: processes draw different random numbers. In float64 the runs' own optimisers are
used; in float32, SGD: where a gradient is nothing but rounding, Adam makes a step of it.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from rnnlab.cli.compose import compose
from tests.invariants.two_processes import main as train_here

pytestmark = pytest.mark.invariant

MORSE = ["data.num_train=44", "data.num_val=5", "data.num_test=4", "data.max_symbols=4", "data.min_speed=25"]
# Of each task: the key that says how large a batch is, its value in each of two processes, and other words. Files are
# fixtures in {}. The rows of most parts cannot be dealt evenly, and the last batch may leave one process without any.
RUNS = {
    "addition": (
        "data.batch_size",
        *(30, ["experiment=addition/lstm", "data.digits=2", "data.num_questions=1402", "data.num_test=51"]),
    ),
    "addition_pruned": (  # before the second, third and fourth epoch, of six steps each
        "data.batch_size",
        30,
        [
            *("experiment=addition/lstm", "data.digits=2", "data.num_questions=350", "data.num_test=51"),
            *("+callbacks.prune._target_=rnnlab.callbacks.Prune", "+callbacks.prune.amounts=[0.3,0.5,0.7]"),
            *("+callbacks.prune.every_epochs=1", "schedule=constant"),
        ],
    ),
    "forecasting": (
        "data.batch_size",
        *(150, ["experiment=forecasting/ten_step_gru", "data.num_steps=6", "data.horizon=2"]),
    ),
    "windows": (
        "data.batch_size",
        *(1200, ["experiment=forecasting/sequence_tbptt_lstm", "data.num_steps=9", "data.tbptt_steps=4"]),
    ),
    "series_forecasting": (
        "data.batch_size",
        5,
        [
            *("experiment=forecasting/table", "data.path={table_file}", "data.window=12", "data.val_size=12"),
            *("data.test_size=12", "data.batch_size=2", "model.dropout=0"),
        ],
    ),
    "char_lm": (
        "data.batch_size",
        *(3, ["experiment=char_lm/tinyshakespeare", "data.path={text_file}", "data.tbptt_steps=40", "model.dropout=0"]),
    ),
    "char_lm_whole": (  # no state is carried: each window is a whole text
        "data.batch_size",
        3,
        [
            *("experiment=char_lm/labelled", "data=labelled_text", "data.path={labelled_file}"),
            *("data.tbptt_steps=70", "model.dropout=0"),
        ],
    ),
    "tagging": (
        "data.max_tokens",
        15,
        [
            *("experiment=pos_tagging/ewt", "data.train={conllu_file}", "data.val={conllu_file}", "model.dropout=0"),
            *("model.word_dropout=0", "model.char_hidden=4", "data.eval_max_tokens=17"),
        ],
    ),
    "tagging_crf": (
        "data.max_tokens",
        15,
        [
            *("experiment=pos_tagging/ewt_crf", "data.train={conllu_file}", "data.val={conllu_file}"),
            *("model.word_dropout=0", "model.char_hidden=4", "model.dropout=0"),
        ],
    ),
    "seq2seq": (
        "data.max_tokens",
        50,
        [
            *("experiment=seq2seq/dates", "data=pairs", "data.train={pairs_file}", "model.dropout=0"),
            *("model.embedding_size=5", "data.eval_max_tokens=60"),
        ],
    ),
    "ctc": ("data.max_frames", 700, ["experiment=ctc/morse", *MORSE, "model.dropout=0", "model.band_dropout=0"]),
    "listen": (
        "data.max_frames",
        *(700, ["experiment=seq2seq/digits", "data=morse", *MORSE, "model.embedding_size=6", "model.dropout=0"]),
    ),
    "classification": (
        "data.batch_steps",
        60,
        [
            *("experiment=classification/ecg5000", "data=series", "data.train={curves}", "model.dropout=0"),
            *("model.distortion=null", "task.class_weights=balanced", "task.label_smoothing=0.1"),
        ],
    ),
    "delineation": (
        "data.batch_size",
        3,
        [
            *("experiment=ecg/delineation", "data.num_train=61", "data.seconds=3", "data.num_val=5", "data.num_test=4"),
            "model.dropout=0",
        ],
    ),
    "generation": (
        "data.batch_size",
        *(350, ["experiment=generation/wave", "data.num_train=7_001", "data.num_steps=4", "model.code_size=4"]),
    ),
    "vectors": (
        "data.max_tokens",
        *(60, ["experiment=generation/numbers", "data.num_digits=1", "data.num_train=7", "data.num_val=2"]),
    ),
}
PRECISIONS = {"64-true": [], "32-true": ["optim=sgd", "optim.lr=0.1"]}
STEPS = 20


def configuration(words, processes, key, size):
    """Return the configuration of a run that makes `STEPS` updates with batches of `size` in each of its processes."""
    given = [
        *(word for word in words if not word.startswith(f"{key}=")),
        *("logger=csv", "callbacks=none", "trainer.accelerator=cpu", "trainer.max_epochs=-1"),
        *(f"+trainer.max_steps={STEPS}", f"trainer.devices={processes}", f"{key}={size}"),
    ]
    if not any(word.startswith("rnn.dropout") for word in given):
        given.append("++rnn.dropout=0")
    return compose(given)[0] | {"name": "run"}


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Rising and falling curves of unequal length, a class each."""
    generator = torch.Generator().manual_seed(0)
    lines = []
    for row in range(63):
        steps = torch.arange(6 + row % 7) - 4.0
        curve = (1 if row % 2 else -1) * steps + 0.3 * torch.randn(len(steps), generator=generator)
        lines.append(["down", "up"][row % 2] + "".join(f"\t{value:.3f}" for value in curve) + "\n")
    path = tmp_path_factory.mktemp("curves") / "curves.tsv"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory, request):
    """What all runs came to, in one process and in two, which are started once: {name: (one, two)}."""
    files = {
        name: request.getfixturevalue(name)
        for name in ("table_file", "text_file", "labelled_file", "conllu_file", "pairs_file", "curves")
    }
    folder, runs = tmp_path_factory.mktemp("runs"), {1: {}, 2: {}}
    for task, (key, size, words) in RUNS.items():
        for precision, others in PRECISIONS.items():
            given = [word.format_map(files) for word in words] + [f"trainer.precision={precision}", *others]
            small = ["rnn.hidden_size=4"]
            for processes in runs:
                share = size * 2 // processes
                runs[processes][f"{task}-{precision}"] = configuration([*given, *small], processes, key, share)
    for processes, configurations in runs.items():
        (folder / f"{processes}").mkdir()
        (folder / f"{processes}.json").write_text(json.dumps(configurations))
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    command = [sys.executable, "-m", "tests.invariants.two_processes", str(folder / "2.json"), str(folder / "2")]
    both = [
        subprocess.Popen(command, env={**os.environ, **meeting, "RANK": rank, "LOCAL_RANK": rank}, text=True)
        for rank in "01"
    ]
    train_here(folder / "1.json", folder / "1")
    assert [process.wait(600) for process in both] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("task", list(RUNS))
def test_two_processes_train_as_one_with_twice_the_batch(found, task, precision):
    one, two = (found / str(processes) / f"{task}-{precision}" for processes in (1, 2))
    for error in (*one.glob("error_*"), *two.glob("error_*")):
        raise AssertionError(error.read_text())
    one, two = (torch.load(folder / "found.pt", weights_only=True) for folder in (one, two))
    tolerance = {"rtol": 0, "atol": 1e-12 if precision == "64-true" else 1e-6}
    assert one["steps"] == two["steps"] == STEPS
    torch.testing.assert_close(two["weights"], one["weights"], **tolerance)
    for kind in ("logged", "measured"):
        assert one[kind].keys() == two[kind].keys()
        for name, value in one[kind].items():
            expected = pytest.approx(value, rel=1e-9 if precision == "64-true" else 1e-4, nan_ok=True)
            assert two[kind][name] == expected, name
