"""Bad input: one clear line on stderr, exit code 2, nothing half-written."""

import shutil

import pytest
import torch
import yaml

from rnnlab.callbacks.files import checksum_path
from rnnlab.cli.main import main
from rnnlab.sweeps.lock import locked
from tests.covering import few


def refuse(capsys, words, *expected):
    """Run the command line, expect exit code 2 and one line of stderr that holds the given texts."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("rnnlab: ")
    assert error.count("\n") == 1, error
    for text in expected:
        assert text in error
    return error


REFUSED = [
    ("experiment=addition/lsmt", "did you mean 'addition/lstm'"),
    ("rnn=lstn", "did you mean 'lstm'"),
    ("data.digitz=3", "did you mean 'data.digits'"),
    ("hidden_size=3", "did you mean 'rnn.hidden_size'"),
    ("rrn=gru", "did you mean 'rnn'"),
    ("digits", "digits"),
    ("optim.lr=[1", "[1"),
    ("data=csv", "data.column, data.path must be given"),
    ("trainer.max_epochs=${nowhere}", "nowhere"),
    ("data.digits=0", "digits must be"),
    ("data.digits=three", "digits must be"),
    ("data.batch_size=100000", "batch_size"),
    ("data.num_questions=100000000", "num_questions"),
    ("+data.colour=red", "AdditionData has no setting 'colour'"),
    ("+data.num_question=9", "AdditionData has no setting 'num_question', did you mean 'num_questions'"),
    ("data=two_sine", "Adder does not fit TwoSineData: it needs answer_length, vocab_size of its data, and these have"),
    ("model=forecaster", "Forecaster does not fit AdditionData: it needs"),
    ("task=tagging", "TaggingTask does not fit Adder: 'Adder' object has no attribute 'num_tags'"),
    ("task=ctc", "CTCTask, Adder and AdditionData do not fit together: 'tuple' object has no attribute 'features'"),
    ("task=generation", "GenerationTask, Adder and AdditionData do not fit together: the model writes"),
    ("rnn.hidden_size=0", "hidden_size"),
    ("rnn.backend=cuda", "backend"),
    ("seed=-1", "seed must be an integer >= 0, got -1"),
    ("seed=null", "seed must be an integer >= 0, got None"),
    ("rnn=none", "Adder is made of recurrent layers: it needs rnn=lstm, gru, rnn or cells/NAME, got none"),
    ("data.reverse=no", "reverse must be true or false, got 'no'"),
    ("data.val_fraction=[1]", "val_fraction must be a number, got [1]"),
    ("data.digits=null", "digits must be an integer, got None"),
    ("rnn@model.decoder=gru", "nothing is chosen at rnn@model.decoder here: +rnn@model.decoder=OPTION adds one"),
    ("model=transformer", "TransformerSeq2Seq has no recurrent layers: it needs rnn=none"),
    ("model._target_=os.system", "'os.system' is not allowed"),
    ("model._target_=rnnlab.models.Addr", "rnnlab.models.Addr"),
    ("model.init.recurrent=orthodox", "orthodox"),
    ("trainer.precision=7", "trainer"),
    ("trainer.devices=0", "trainer.devices must be how many, a list of numbers, or auto for all, got 0"),
    ("trainer.num_nodes=0", "trainer.num_nodes must be an integer of at least 1, got 0"),
    ("trainer.num_nodes=2", "trainer.num_nodes above 1 needs torchrun or srun, to start a process on each node"),
    ("trainer.strategy=dpp", "trainer.strategy must be auto or ddp or ddp_find_unused_parameters_true, got 'dpp', did"),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be an integer of at least 1"),
    ("+trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch must be an integer of at least 1"),
    ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0 leaves nothing to train on"),
    ("+trainer.num_sanity_val_steps=2", "trainer.num_sanity_val_steps cannot be set: a step is always rehearsed"),
    ("+trainer.default_root_dir=here", "run_dir=DIR says where a run goes"),
    ("+trainer.fast_dev_run=true", "debug=limit makes a short run"),
    ("+trainer.profiler=sample", "trainer.profiler must be simple or advanced, got 'sample'"),
    ("trainer.max_epochs=0", "trainer.max_epochs must be an integer of at least 1"),
    ("trainer.max_epochs=-1", "trainer.max_epochs must be an integer of at least 1"),
    ("+trainer.max_steps=0", "trainer.max_steps must be an integer of at least 1"),
    ("optim.lr=-1", "Adam(lr=-1, fused=True): Invalid learning rate: -1"),
    ("optim.lr=abc", "Adam(lr='abc', fused=True)"),
    ("+schedule.pct_start=2", "one_cycle(max_lr=0.005, pct_start=2)"),
    ("+rnn.batch_first=true", "rnn.batch_first must be false"),
    ("resume=true", "resume=true needs run_dir=DIR"),
    ("+ckpt_path=last.ckpt", "nothing reads ckpt_path"),
    ("--optim.lr=0.1", "words have no hyphens before them"),
    ("~logger", "logger cannot be left out: give logger=csv|mlflow|tensorboard|wandb"),
    ("logger=null", "logger=null: an option is needed, csv or mlflow or tensorboard or wandb"),
    ("~schedule", "schedule cannot be left out"),
    ("tags=trial", "tags must be a list, as tags=[trial]"),
    (f"tags=[{'x' * 65}]", "is 65 characters"),
    ("logger.wandb.project=a/b", "logger.wandb.project: Invalid project name 'a/b'"),
    ("logger.wandb.mode=off", "logger.wandb.mode: Input should be 'online', 'offline'"),
    ("+logger.wandb.entety=red", "logger.wandb has no option 'entety', did you mean 'entity'"),
    ("~seed", "seed cannot be left out: give seed=VALUE"),
    ("hydra.run.dir=here", "run_dir=DIR says where a run goes"),
    ("hydra.sweep.dir=here", "sweep_dir=DIR says where a sweep goes"),
    ("sweep_dir=here", "goes with -m: a single run has run_dir=DIR"),
    ("max_jobs=2", "goes with -m"),
    ("hydra/launcher=joblib", "goes with -m"),
    ("debug=limt", "no debug is called 'limt', did you mean 'limit'"),
    ("-sc=install=bash", "`rnnlab completion bash` prints"),
]


@pytest.mark.parametrize(("word", "expected"), few(REFUSED, REFUSED[::8], several=True))
def test_train_refuses(word, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(capsys, ["train", word], expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["schedule=plateau", "+trainer.limit_val_batches=0"], "schedule=plateau needs a validation in each epoch"),
        (["schedule=plateau", "+trainer.check_val_every_n_epoch=2"], "trainer.check_val_every_n_epoch is 2"),
        (["trainer.precision=bf16-mixed", "optim.fused=true"], "not fused: optim.fused=false, or auto"),
        (
            ["callbacks=none", "+callbacks.samples.length=30"],
            "callbacks.samples needs a _target_, got {'length': 30}; ~callbacks.samples takes it away",
        ),
        (
            ["logger=csv", "+callbacks.lr._target_=lightning.pytorch.callbacks.LearningRateMonitor"],
            "LearningRateMonitor among the callbacks needs a logger: logger=wandb",
        ),
    ],
)
def test_train_refuses_together(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse(capsys, ["train", "trainer.accelerator=cpu", *words], expected)
    assert not list(tmp_path.iterdir())


def test_train_refuses_to_be_online_without_an_account(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wandb.login", lambda **_: False)
    monkeypatch.setenv("WANDB_MODE", "online")
    refuse(capsys, ["train"], "logger.wandb.mode=online needs an account")
    assert not list(tmp_path.iterdir())


def test_train_refuses_cuda_where_there_is_none(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("cuda", "gpu"):
        words = ["train", f"run_dir={tmp_path / 'run'}", f"trainer.accelerator={accelerator}"]
        refuse(capsys, words, f"trainer.accelerator={accelerator}", "use auto or cpu")
    assert not (tmp_path / "run").exists()


def test_train_refuses_targets_the_model_does_not_forecast(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "experiment=forecasting/one_step_gru", "trainer.accelerator=cpu", "data.target=sequence"]
    refuse(capsys, words, "data.target=sequence goes with model.all_steps=true")
    assert not list(tmp_path.iterdir())


def test_hint_names_only_settings_of_the_chosen_groups(capsys):
    error = refuse(capsys, ["train", "optim=sgd", "optim.weight_decay=0.1"], "no setting is called")
    assert "did you mean 'optim.weight_decay'" not in error
    refuse(capsys, ["train", "optim=sgd", "optim.momentun=0.1"], "did you mean 'optim.momentum'")
    refuse(capsys, ["train", "-m", "rnn=lstm,gru", "rnn.hiden_size=1"], "did you mean 'rnn.hidden_size'")


def test_train_refuses_a_file_as_directory(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    refuse(capsys, ["train", f"run_dir={tmp_path / 'file'}"], "cannot be written")
    refuse(capsys, ["train", f"run_dir={tmp_path / 'file' / 'run'}"], "cannot be written")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", few(["evaluate", "predict", "train"], ["train"]))
def test_a_changed_training_file_is_refused(verb, capsys, series_run, csv_file, tmp_path):
    run_dir = shutil.copytree(series_run, tmp_path / "run")
    (run_dir / "metrics.json").unlink()
    changed = tmp_path / "series.csv"
    changed.write_text(csv_file.read_text().replace(",100", ",101"))
    config = (run_dir / "config.yaml").read_text()
    (run_dir / "config.yaml").write_text(config.replace(str(csv_file), str(changed)))
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    files = {"predict": [f"input={csv_file}", f"output={tmp_path / 'out.csv'}"], "train": ["resume=true"]}
    words = [verb, f"run_dir={run_dir}", *files.get(verb, [])]
    refuse(capsys, words, "series.csv is not the file this run was trained on")
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before
    assert not (tmp_path / "out.csv").exists()


CSV_WORDS = ["train", "experiment=forecasting/air_passengers"]


def test_train_refuses_a_missing_csv(capsys, tmp_path):
    refuse(capsys, [*CSV_WORDS, f"run_dir={tmp_path / 'run'}", f"data.path={tmp_path / 'no.csv'}"], "no.csv")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cell", ["nan", "", "many"])
def test_train_refuses_a_csv_with_a_gap(cell, capsys, tmp_path, csv_file):
    lines = csv_file.read_text().splitlines()
    lines[4] = lines[4].split(",")[0] + "," + cell
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(lines))
    words = [*CSV_WORDS, f"run_dir={tmp_path / 'run'}", f"data.path={path}", "data.column=level"]
    refuse(capsys, words, "gap.csv:5", "level")
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_used_directory(capsys, addition_run):
    before = (addition_run / "metrics.json").read_text()
    refuse(capsys, ["train", f"run_dir={addition_run}"], "is not empty", "resume=true")
    assert (addition_run / "metrics.json").read_text() == before


def test_resume_refuses_other_settings(capsys, addition_run, tmp_path):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    refuse(capsys, ["train", f"run_dir={run_dir}", "resume=true", "rnn=gru"], "a resumed run keeps its configuration")


@pytest.mark.parametrize("verb", ["evaluate", "predict", "train"])
def test_directory_without_a_run(verb, capsys, addition_run, tmp_path):
    files = {"predict": ["input=a", "output=b"], "train": ["resume=true"], "evaluate": []}[verb]
    refuse(capsys, [verb, f"run_dir={tmp_path}", *files], "holds no run")
    wrong = addition_run.with_name("additoin")
    refuse(capsys, [verb, f"run_dir={wrong}", *files], "did you mean 'addition'")


@pytest.mark.parametrize("verb", few(["evaluate", "predict", "train"], ["evaluate"]))
@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "foreign", "pickle", "other_model", "bit"])
def test_checkpoint_that_is_none(verb, kind, capsys, addition_run, tmp_path):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    (run_dir / "metrics.json").unlink()
    for name in ("best", "last"):
        path = run_dir / "checkpoints" / f"{name}.ckpt"
        if kind == "garbage":
            path.write_bytes(b"not a checkpoint")
        elif kind == "truncated":
            path.write_bytes(path.read_bytes()[:1000])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "bit":
            values = torch.load(path, weights_only=True)["state_dict"].values()
            weights = max(values, key=torch.numel).numpy().tobytes()
            content = bytearray(path.read_bytes())
            content[content.index(weights)] ^= 1
            path.write_bytes(content)
        elif kind == "foreign":
            torch.save({"weights": torch.zeros(3)}, path)
        elif kind == "pickle":
            torch.save({"model": torch.nn.Linear(2, 2)}, path)
        else:
            checkpoint = torch.load(path, weights_only=True)
            checkpoint["state_dict"] = {"model.weight": torch.zeros(1)}
            torch.save(checkpoint, path)
        checksum_path(path).unlink()  # without which the file has to speak for itself
    (tmp_path / "in.txt").write_text("1+1\n")
    files = {"predict": [f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.txt'}"], "train": ["resume=true"]}
    said = {
        "garbage": "was not written by rnnlab",
        "empty": "is empty",
        "truncated": "its end is missing",
        "foreign": "has no 'rnnlab' entry",
        "pickle": "more than tensors and plain data",
        "other_model": "does not fit this model",
        "bit": "is damaged",
    }
    refuse(capsys, [verb, f"run_dir={run_dir}", *files.get(verb, [])], "checkpoint", ".ckpt", said[kind])
    assert not (tmp_path / "out.txt").exists()
    assert not (run_dir / "evaluate.json").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict", "diagnose", "train"])
def test_a_flipped_bit_anywhere_is_noticed(verb, capsys, addition_run, tmp_path):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    (run_dir / "metrics.json").unlink()
    path = run_dir / "checkpoints" / ("last.ckpt" if verb == "train" else "best.ckpt")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    (tmp_path / "in.txt").write_text("1+1\n")
    files = {"predict": [f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.txt'}"], "train": ["resume=true"]}
    refuse(capsys, [verb, f"run_dir={run_dir}", *files.get(verb, [])], "is damaged", f"{path.name}.sha256")


def resume_of(addition_run, tmp_path):
    """Return a copy of a run whose final numbers are missing, and the words that resume it."""
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    (run_dir / "metrics.json").unlink()
    return run_dir, ["train", f"run_dir={run_dir}", "resume=true"]


@pytest.mark.parametrize("key", ["seed", "data.num_questions", "data.batch_size", "optim.lr"])
def test_resume_refuses_an_edited_configuration(key, capsys, addition_run, tmp_path):
    run_dir, words = resume_of(addition_run, tmp_path)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    *path, leaf = key.split(".")
    inner = config
    for part in path:
        inner = inner[part]
    former, inner[leaf] = inner[leaf], inner[leaf] * 2 + 1
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    refuse(capsys, words, f"{key} is {inner[leaf]!r}", f"trained with {former!r}")


def test_resume_says_what_is_missing(capsys, addition_run, tmp_path):
    run_dir, words = resume_of(addition_run, tmp_path)
    (run_dir / "checkpoints" / "best.ckpt").unlink()
    refuse(capsys, words, "best.ckpt is missing")
    (run_dir / "checkpoints" / "last.ckpt").unlink()
    refuse(capsys, words, "last.ckpt is missing, but 2 epochs are on record")


@pytest.mark.parametrize("cut", [3, 200, -1, -4, None])
@pytest.mark.parametrize("verb", ["train", "diagnose"])
def test_torn_records_are_said_to_be_torn(cut, verb, capsys, addition_run, tmp_path):
    run_dir, words = resume_of(addition_run, tmp_path)
    path = run_dir / "metrics.csv"
    content = path.read_bytes()
    if cut is None:  # a whole row
        if verb == "diagnose":
            return
        path.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    else:
        path.write_bytes(content[:cut])
    words = words if verb == "train" else ["diagnose", f"run_dir={run_dir}"]
    refuse(capsys, words, "metrics.csv", "bring back a copy")


def test_resume_is_alone_in_its_directory(capsys, addition_run, tmp_path):
    run_dir, words = resume_of(addition_run, tmp_path)
    (run_dir / ".lock").touch()  # of a process that was killed
    with locked(run_dir):
        refuse(capsys, words, f"another process is training in run_dir={run_dir}")
    assert main(words) == 0


def test_a_schedule_over_the_whole_training_cannot_become_longer(capsys, addition_run, tmp_path):
    run_dir, words = resume_of(addition_run, tmp_path)
    refuse(capsys, [*words, "trainer.max_epochs=3"], "trainer.max_epochs was 2, got 3", "schedule one_cycle")
    refuse(capsys, [*words, "optim.lr=3"], "optim.lr is", "on the command line")
    assert main([*words, "trainer.max_epochs=2", "data.digits=2"]) == 0  # says what was


def test_threads(capsys, tmp_path):
    for given in ("0", "many", "true"):
        refuse(capsys, ["train", f"run_dir={tmp_path / 'run'}", f"threads={given}"], "threads must be an integer >= 1")


def test_missing_checkpoint(capsys, addition_run):
    refuse(capsys, ["evaluate", f"run_dir={addition_run}", "ckpt=first"], "use best, last or the path of a checkpoint")


def test_foreign_configuration(capsys, tmp_path):
    (tmp_path / "config.yaml").write_text("model: resnet\n")
    refuse(capsys, ["evaluate", f"run_dir={tmp_path}"], "is not the configuration of an rnnlab run")
    (tmp_path / "config.yaml").write_text("a: [1\n")
    refuse(capsys, ["evaluate", f"run_dir={tmp_path}"], "cannot be read")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate"], "missing run_dir=..."),
        (["evaluate", "rundir=x"], "did you mean 'run_dir'?"),
        (["evaluate", "run_dir"], "expected key=value, got 'run_dir'"),
        (["predict", "run_dir=x"], "missing input=... and output=..."),
        (["doctor", "now"], "doctor takes no options, got 'now'"),
    ],
)
def test_words_of_the_other_verbs(words, expected, capsys):
    refuse(capsys, words, expected)


def test_evaluate_refuses_an_unknown_setting(capsys, addition_run):
    refuse(capsys, ["evaluate", f"run_dir={addition_run}", "data.bach_size=2"], "did you mean 'data.batch_size'")
    refuse(
        capsys, ["evaluate", f"run_dir={addition_run}", "data.batch_size=[1"], "data.batch_size: '[1' cannot be read"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [("1+1\nfoo\n", "in.txt:2"), ("1+1111111\n", "in.txt:1"), ("", "is empty"), (None, "no file of questions at")],
)
def test_predict_refuses_bad_lines(content, expected, capsys, addition_run, tmp_path):
    source = tmp_path / "in.txt"
    if content is not None:
        source.write_text(content)
    words = ["predict", f"run_dir={addition_run}", f"input={source}", f"output={tmp_path / 'out.txt'}"]
    refuse(capsys, words, expected)
    assert [path.name for path in tmp_path.iterdir()] == (["in.txt"] if content is not None else [])
