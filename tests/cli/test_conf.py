"""Every file of conf/ composes, every experiment instantiates."""

import itertools
import re
import wave

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from rnnlab.cli.build import build
from rnnlab.cli.compose import composed as checked
from rnnlab.cli.compose import flatten, settings
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import conf_dir, groups, options, questions
from rnnlab.cli.instantiate import instantiate
from rnnlab.tasks import ListenTask
from rnnlab.tasks.listen import listening
from tests.covering import few
from tests.data.idx_files import write_images
from tests.voices import skip_without_espeak

# Overrides by experiment that make its data and model small.
SMALL = {
    "addition": ["data.num_questions=300", "data.num_test=50", "rnn.hidden_size=4"],
    "forecasting": ["trainer.max_epochs=1"],
    "cells": ["trainer.max_epochs=1"],
    "cells/addition": ["data.num_questions=300", "data.num_test=50", "rnn.hidden_size=4"],
    "cells/char_lm": ["rnn.hidden_size=4", "data.ngram_order=1", "data.max_chars=200000"],
    "char_lm": ["rnn.hidden_size=4", "data.ngram_order=1"],
    "ctc": ["rnn.hidden_size=4"],
    "ctc/morse": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4"],
    "ctc/digits": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4"],
    "ctc/speech": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4", "data.cache=null"],
    "ecg": ["data.num_train=32", "data.num_val=4", "data.num_test=4"],
    "speech": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4", "data.cache=null"],
    "classification": ["rnn.hidden_size=4"],
    "classification/mnist1d": ["data.num_sequences=200", "rnn.hidden_size=4"],
    "generation": ["rnn.hidden_size=4"],
    "memory": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4"],
    "memory/images": ["rnn.hidden_size=4"],
    "memory/adding": ["data.num_train=60", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4"],
    "pos_tagging": ["rnn.hidden_size=4"],
    "seq2seq": ["rnn.hidden_size=4"],
    "seq2seq/dates": ["data.num_train=300", "data.num_val=30", "data.num_test=30", "rnn.hidden_size=4"],
    "seq2seq/digits": ["data.num_train=12", "data.num_val=4", "data.num_test=4", "rnn.hidden_size=4"],
    "seq2seq/g2p_transformer": ["model.width=8", "model.feed_forward=8"],
    "seq2seq/dates_transformer": ["data.num_train=300", "data.num_val=30", "data.num_test=30", "model.width=8"],
}
PRONOUNCED = ["".join(letters) for letters in itertools.product("abc", repeat=5)]
EXPERIMENTS = options("experiment")
ONE_OF_EACH_TASK = (
    *("addition/gru", "cells/ten_step", "char_lm/tinyshakespeare", "forecasting/air_passengers"),
    "forecasting/table",
    *("forecasting/sequence_tbptt_lstm", "pos_tagging/ewt_crf", "seq2seq/g2p"),
)


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return checked(config)


@pytest.mark.parametrize("experiment", few(EXPERIMENTS, ONE_OF_EACH_TASK))
def test_experiment_instantiates(experiment, tmp_path, csv_file, table_file, text_file, conllu_file):
    overrides = [
        f"experiment={experiment}",
        *SMALL.get(experiment, SMALL[experiment.split("/")[0]]),
        "logger=csv",
        "trainer.accelerator=cpu",
    ]
    data = composed(*overrides)["data"]  # what it reads from a file is replaced by a small one of the same kind
    if data.get("column") == "passengers":
        overrides += [f"data.path={csv_file}", "data.column=level", "data.test_size=10", "data.window=6"]
    elif "table" in data:
        overrides += [f"data.path={table_file}", "data.val_size=12", "data.test_size=12", "data.window=12"]
        overrides += ["data.table.targets=[passengers]", "data.table.time_column=month", "data.horizon=3"]
        overrides += ["data.table.series_column=null", "data.unseen=0", "data.batch_size=8"]
    elif "stress" in data:
        dictionary = tmp_path / "dictionary"
        dictionary.write_text("".join(f"{word}  {' '.join(word.upper())}\n" for word in PRONOUNCED))
        overrides += [f"data.path={dictionary}"]
    elif "accents" in data:
        skip_without_espeak()
        if data["texts"] is not None:
            (tmp_path / "texts").write_text("\n".join(f"We go {word}." for word in PRONOUNCED))
            overrides += [f"data.texts={tmp_path / 'texts'}"]
    elif "leave_out" in data:
        for digit, index in itertools.product(range(10), (0, 5, 12)):  # of test, val and train
            with wave.open(str(tmp_path / f"{digit}_ann_{index}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(bytes(range(256)) * 20)
        overrides += [f"data.path={tmp_path}"]
    elif "num_folds" in data:
        curves = ["\t".join(str((3 * row + step) % 7) for step in range(9)) for row in range(20)]
        (tmp_path / "series.tsv").write_text("".join(f"{label}\t{curve}\n" for curve in curves for label in "AB"))
        overrides += [f"data.train={tmp_path / 'series.tsv'}"]
    elif "permute_seed" in data:
        write_images(tmp_path)
        overrides += [f"data.path={tmp_path}", "data.num_val=6"]
    elif data.get("path") is not None:
        overrides += [f"data.path={text_file}", "data.batch_size=2"]
    elif "weight_power" in data:
        treebank = tmp_path / "lemmas.conllu"
        treebank.write_text(re.sub(r"(?m)^(\d+)\t(\w+)\t_", r"\1\t\2\t\2", conllu_file.read_text()))
        overrides += [f"data.train={treebank}", f"data.val={treebank}"]
    elif data.get("train") is not None:
        overrides += [f"data.train={conllu_file}", f"data.val={conllu_file}"]
    config = composed(*overrides)
    assert config["name"] == experiment
    run = build(config, tmp_path)
    batch = next(iter(run.data.train_dataloader()))
    run.task.train()
    if hasattr(batch, "values"):
        scores = run.task.model(batch.values, batch.lengths)
        assert scores.shape == (len(batch.labels), run.data.sizes["num_classes"])
        return
    if isinstance(run.task, ListenTask):
        batch = listening(batch)
    if hasattr(batch, "features"):
        logits, steps = run.task.model(batch.features, batch.lengths)
        assert logits.shape == (int(steps.max()), len(batch.rows), run.data.sizes["num_classes"])
        return
    if hasattr(batch, "loc"):
        assert run.task.predict_step(batch).mean.shape == batch.target.shape
        return
    if "num_points" in run.data.sizes:
        signal, points, _ = batch
        assert run.task.model(signal).shape[1:] == (len(signal), 1 + points.shape[2])
        return
    targets = getattr(batch, "tags", getattr(batch, "target", None))
    labels = {} if getattr(batch, "labels", None) is None else {"labels": batch.labels}
    prediction = run.task.model(batch[0] if targets is None else batch, **labels)
    targets = batch[1] if targets is None else targets
    assert prediction.shape[: targets.ndim] == targets.shape
    assert run.task.monitor[0].startswith("val/")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_says_what_it_is(experiment):
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    for line, label in zip(lines[1:5], ("question", "command", "expected", "hardware"), strict=True):
        assert re.fullmatch(rf"# {label}: +\S.*", line), line
    assert lines[2].endswith(f"rnnlab train experiment={experiment}")
    assert lines[1].endswith(questions()[experiment])


OPTIONS = [(group, option) for group in groups() if group not in ("experiment", "machine") for option in options(group)]


@pytest.mark.parametrize(("group", "option"), few(OPTIONS, OPTIONS[::4], several=True), ids="/".join)
def test_option_composes(group, option):
    needed = {
        ("data", "csv"): ["data.path=x.csv", "data.column=y"],
        ("data", "table"): ["data.path=x.csv"],
        ("data", "text"): ["data.path=x.txt"],
        ("data", "labelled_text"): ["data.path=x.tsv"],
        ("data", "conllu"): ["data.train=x.conllu", "data.val=y.conllu"],
        ("data", "lemma"): ["data.train=x.conllu"],
        ("data", "pairs"): ["data.train=x.tsv"],
        ("data", "sounds"): ["data.train=x.tsv"],
        ("data", "series"): ["data.train=x.tsv"],
        ("model", "vector_decoder"): ["model.source_length=4"],
        ("model", "linear_series_forecaster"): ["model.window=24"],
    }.get((group, option), [])
    config = composed(f"{group}={option}", *needed)
    assert config["name"] == "addition/lstm"


def test_groups_are_frozen_and_in_the_table():
    expected = [
        "callbacks",
        "data",
        "debug",
        "experiment",
        "logger",
        "model",
        "optim",
        "paths",
        "rnn",
        "schedule",
        "task",
    ]
    assert [group for group in groups() if group != "machine"] == [*expected, "trainer"]
    table = (conf_dir() / "README.md").read_text()
    for group in groups():
        assert f"`{group}`" in table
        for option in options(group):
            assert group == "machine" or f"`{option}`" in table, f"{group}={option} is not in conf/README.md"


def test_overrides_have_the_last_word():
    assert composed("experiment=addition/gru", "rnn=lstm", "rnn.hidden_size=7")["rnn"] | {"_partial_": True} == {
        "_target_": "rnnlab.nn.LSTM",
        "_partial_": True,
        "hidden_size": 7,
        "num_layers": 1,
        "dropout": 0.0,
        "backend": "auto",
    }
    assert composed("optim=sgd")["schedule"]["max_lr"] == 0.1


def test_settings_lists_what_can_be_overridden():
    keys = set(flatten(composed())) | set(groups())
    assert {"rnn.hidden_size", "data.digits", "seed", "experiment"} <= set(settings())
    assert not [key for key in settings() if key.split(".")[0] not in {name.split(".")[0] for name in keys}]


def test_yaml_files_are_tidy():
    for path in conf_dir().rglob("*.yaml"):
        content = path.read_text()
        assert content.endswith("\n") and "\t" not in content, path
        assert isinstance(yaml.safe_load(content), dict), path


CELLS = [option for option in options("rnn") if option.startswith("cells/")]


@pytest.mark.parametrize("cell", few(CELLS, CELLS[:1]))
def test_hidden_size_sizes_any_cell(cell):
    """In any experiment, also where `rnn.cell.hidden_size` was the only name of it; which still has the last word."""
    for experiment, size in (("forecasting/one_step_gru", 20), ("cells/ten_step", 20), ("addition/lstm", 128)):
        words = [f"experiment={experiment}", f"rnn={cell}"]
        for extra, expected in (([], size), (["rnn.hidden_size=7"], 7), (["rnn.cell.hidden_size=5"], 5)):
            rnn = composed(*words, *extra)["rnn"]
            assert rnn["cell"]["hidden_size"] == expected and "hidden_size" not in rnn
    assert instantiate(composed(f"rnn={cell}", "rnn.hidden_size=32")["rnn"])(input_size=3).cells[0].hidden_size == 32


def test_an_experiment_may_set_whatever_a_run_has_and_the_command_line_has_the_last_word(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [addition/lstm]\nseed: 3\ncompile: true\ntags: [mine]\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    words = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
    config = composed(*words)
    assert (config["seed"], config["data"]["seed"], config["compile"], config["tags"]) == (3, 3, True, ["mine"])
    assert composed(*words, "seed=4", "data.seed=5")["data"]["seed"] == 5
    (tmp_path / "experiment" / "mine.yaml").write_text(f"{text}plugins: [mylab]\n")
    with pytest.raises(UsageError, match=r"only the command line may: add plugins=\[mylab\]"):
        composed(*words)


def test_a_key_of_ones_own_is_there_to_be_referred_to():
    assert composed("+width=7", "rnn.hidden_size=${width}")["rnn"]["hidden_size"] == 7
    with pytest.raises(UsageError, match="nothing reads width"):
        composed("+width=7")
