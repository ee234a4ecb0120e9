"""`rnnlab sample` and `rnnlab diagnose` on a trained character model; what they refuse."""

import json
import shutil

import pytest

from rnnlab.cli.diagnose import _gradient_flow
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import main
from rnnlab.cli.sample import _read_prompts


def run(capsys, *words):
    """Return exit code, stdout and stderr of one command."""
    capsys.readouterr()
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_records_of_a_character_run(char_run):
    files = {path.relative_to(char_run).as_posix() for path in char_run.rglob("*") if path.is_file()}
    assert {"figures/learning_curve.png", "figures/surprise.png", "checkpoints/best.ckpt", "metrics.csv"} <= files
    (table,) = char_run.glob("wandb/offline-run-*/files/media/table/samples_*.json")
    rows = json.loads(table.read_text())
    assert rows["columns"] == ["epoch", "sample", "temperature", "text"]
    assert [row[:3] for row in rows["data"]] == [[epoch, sample, 0.8] for epoch in (0, 1) for sample in (0, 1)]
    metrics = json.loads((char_run / "metrics.json").read_text())
    assert metrics["val/bits"] == pytest.approx(metrics["val/loss"] / 0.6931471805599453)
    assert metrics["val/perplexity"] == pytest.approx(2 ** metrics["val/bits"])
    assert metrics.keys() >= {
        "baseline/1gram/val/bits",
        "baseline/5gram/val/bits",
        "time/characters_per_s",
        "memory/peak_mib",
    }
    assert not any(key.startswith("test/") for key in metrics)
    text = (char_run / "run.log").read_text()
    assert "baseline/5gram/val/bits" in text and "    | " in text


def test_one_sample_is_streamed_behind_its_prompt(char_run, capsys, text_file):
    words = ["sample", f"run_dir={char_run}", "prompt=3 birds (or", "length=30"]
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "") and out.startswith("3 birds (or") and len(out.rstrip("\n")) >= 30
    assert run(capsys, *words)[1] == out
    assert run(capsys, *words, "seed=1")[1] != out
    greedy = [run(capsys, *words, "temperature=0", f"seed={seed}")[1] for seed in (0, 1)]
    assert greedy[0] == greedy[1] == run(capsys, *words, "top_k=1")[1]


def test_the_training_text_is_not_needed(char_run, capsys):
    assert run(capsys, "sample", f"run_dir={char_run}", "length=5", "data.path=gone.txt")[0] == 0


def test_several_are_told_apart_and_written(char_run, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("1 bird\n2 birds\n")
    words = ["sample", f"run_dir={char_run}", f"prompts={tmp_path / 'prompts.txt'}", "num_samples=2", "length=8"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    headings = [line for line in out.splitlines() if line.startswith("--- ")]
    assert headings == [f"--- prompt {p} of 2, sample {s} of 2 ---" for p in (1, 2) for s in (1, 2)]
    code, said, _ = run(capsys, *words, f"output={tmp_path / 'out.txt'}")
    assert code == 0 and said.strip() == f"4 texts in {tmp_path / 'out.txt'}"
    assert (tmp_path / "out.txt").read_text() == out


def test_unknown_characters_are_named(char_run, capsys):
    code, out, err = run(capsys, "sample", f"run_dir={char_run}", "prompt=é~", "length=3")
    assert code == 0 and out.startswith("é~")
    assert err.startswith("rnnlab: not in the vocabulary, read as unknown: ") and "'é' U+00E9" in err and "'~'" in err


def test_stop_ends_a_sample(char_run, capsys):
    out = run(capsys, "sample", f"run_dir={char_run}", "prompt=3 birds", "length=200", "stop= ")[1]
    assert out.count(" ") == 2 and out.rstrip("\n").endswith(" ")


def test_beam_search_is_at_least_as_likely_as_greed(char_run, capsys):
    words = ["sample", f"run_dir={char_run}", "prompt=3 birds", "length=12"]
    code, beam, _ = run(capsys, *words, "beam=4")
    assert code == 0 and len(beam.rstrip("\n")) == len("3 birds") + 12
    assert run(capsys, *words, "beam=1")[1] == run(capsys, *words, "temperature=0")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["top_k=abc"], "top_k must be .* got 'abc'"),
        (["top_k=0"], "top_k must be an integer of at least 1, got 0"),
        (["top_p=1.5"], "top_p must .* got 1.5"),
        (["temperature=-1"], "temperature must .* got -1"),
        (["length=0"], "length must be an integer of at least 1, got 0"),
        (["temperatur=1"], "sample has no option 'temperatur', did you mean 'temperature'"),
        (["beam=3", "seed=1"], "seed=1 does not go with beam=K"),
        (["length_penalty=1"], "length_penalty=1 needs beam=K"),
        (["stop=~"], "stop='~' would never be written"),
        (["prompt=a", "prompts=b"], "do not go together"),
        (["prompts=nowhere.txt"], "prompts=nowhere.txt cannot be read"),
        (["output=no/folder/out.txt"], "the folder no/folder does not exist"),
        (["ckpt=worst"], "ckpt=worst: worst does not exist"),
    ],
)
def test_bad_options_are_refused(char_run, capsys, words, message):
    import re

    code, out, err = run(capsys, "sample", f"run_dir={char_run}", *words)
    assert code == 2 and out == "" and re.search(message, err), err
    assert err.startswith("rnnlab: ") and err.count("\n") == 1


def test_other_runs_are_named(addition_run, capsys):
    code, _, err = run(capsys, "sample", f"run_dir={addition_run}")
    assert code == 2 and "holds a run of addition/lstm (AdditionTask on AdditionData)" in err


def test_a_character_run_is_evaluated_and_answers_no_queries(char_run, capsys, tmp_path, text_file):
    char_run = shutil.copytree(char_run, tmp_path / "run")
    code, out, _ = run(capsys, "evaluate", f"run_dir={char_run}", "task.dynamic_lr=1e-4")
    found = json.loads((char_run / "evaluate.json").read_text())["metrics"]
    stored = json.loads((char_run / "metrics.json").read_text())
    assert code == 0 and found["val/loss"] == pytest.approx(stored["val/loss"], rel=1e-6)
    assert found["val/bits_dynamic"] != found["val/bits"]
    code, out, _ = run(capsys, "evaluate", f"run_dir={char_run}", f"data.test={text_file}")
    assert out.splitlines()[-1] == str(char_run / "evaluate_2.json")  # another evaluation is kept
    found = json.loads((char_run / "evaluate_2.json").read_text())["metrics"]
    assert code == 0 and found.keys() >= {"test/loss", "test/bits", "baseline/5gram/test/bits"}
    code, _, err = run(capsys, "predict", f"run_dir={char_run}", f"input={text_file}", f"output={tmp_path / 'x'}")
    assert code == 2 and "use `rnnlab sample`" in err


def test_diagnose_draws_a_character_model(char_run, capsys, tmp_path, text_file):
    char_run = shutil.copytree(char_run, tmp_path / "run")
    code, out, err = run(capsys, "diagnose", f"run_dir={char_run}", "length=200")
    assert code == 0, err
    for name in ("learning_curve", "surprise", "units"):
        assert (char_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert out.count(f"figures/{name}.png") == 1
    assert "correlation" in out
    (tmp_path / "own.txt").write_text("4 birds (or ~ 4) sang 'la la la la'.\n" * 8)
    code, _, err = run(
        capsys, "diagnose", f"run_dir={char_run}", f"input={tmp_path / 'own.txt'}", "data.path=gone.txt", "length=100"
    )
    assert code == 0 and "'~'" in err


def test_data_that_are_gone_cost_the_picture_of_gradient_flow_alone(char_run, capsys):
    """A character model needs its text for nothing else, if it is given a passage."""
    assert _gradient_flow(char_run, "best", ["data.path=gone.txt"], "mine", records=True) == {}
    said = capsys.readouterr().out
    assert said.startswith("mine: no picture of gradient flow: ") and "gone.txt" in said and said.count("\n") == 1
    assert _gradient_flow(char_run, "best", ["data.path=gone.txt"], "mine", records=False) == {}


def test_diagnose_of_another_task_draws_its_curves(addition_run, capsys, tmp_path):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    code, out, _ = run(capsys, "diagnose", f"run_dir={run_dir}")
    assert code == 0 and "figures/learning_curves.png" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.dynamic_lr=-1"], "task.dynamic_lr must be > 0"),
        (["task.dynamic_steps=0", "task.dynamic_lr=1"], "task.dynamic_steps must be an integer of at least 1, got 0"),
        (["model.embedding_size=-3"], "model.embedding_size must be an integer of at least 1 or null, got -3"),
        (["schedule=late_decay", "schedule.start=1"], "start must lie in [0, 1)"),
        (["schedule=plateau", "schedule.factor=-0.5"], "factor must lie in (0, 1)"),
        (["schedule.warmup_steps=abc"], "warmup_steps must be an integer >= 0"),
        (["data.split=none"], "split=none leaves nothing for validation"),
    ],
)
def test_training_refuses_before_it_begins(text_file, tmp_path, capsys, words, message):
    run_dir = tmp_path / "run"
    given = ["experiment=char_lm/tinyshakespeare", f"data.path={text_file}", "data.batch_size=5", f"run_dir={run_dir}"]
    code, _, err = run(capsys, "train", *given, *words)
    assert code == 2 and message in err and err.count("\n") == 1 and not run_dir.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["length=1"], "length must be an integer from 2 to 2000, got '1'"),
        (["length=abc"], "length must be an integer from 2 to 2000, got 'abc'"),
        (["input=nowhere.txt"], "no text file at nowhere.txt"),
        (["inptu=x"], "diagnose has no option 'inptu', did you mean 'input'"),
    ],
)
def test_diagnose_refuses(char_run, capsys, words, message):
    code, _, err = run(capsys, "diagnose", f"run_dir={char_run}", *words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_prompts_are_read_as_other_texts_are(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa\u2028b\r\n\r\nc\r\n".encode())
    assert _read_prompts({"prompts": str(path)}) == ["a\u2028b", "", "c"]
    path.write_bytes("é\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"prompts.txt:1: is not UTF-8: .* at byte 0; encoding=NAME says what it is"):
        _read_prompts({"prompts": str(path)})
    assert _read_prompts({"prompts": str(path), "encoding": "cp1252"}) == ["é"]


def test_a_label_is_written_for(labelled_run, capsys, tmp_path):
    metrics = json.loads((labelled_run / "metrics.json").read_text())
    assert {"val/bits/loud", "test/bits/soft", "baseline/5gram_by_label/test/bits/loud"} <= metrics.keys()
    assert (labelled_run / "figures" / "surprise.png").is_file()
    words = ["sample", f"run_dir={labelled_run}", "prompt=3", "num_samples=10"]
    for label in ("loud", "soft"):
        code, out, err = run(capsys, *words, f"label={label}")
        texts = [line for line in out.splitlines() if not line.startswith("---")]
        assert (code, err, len(texts)) == (0, "", 10)  # each ends with its line
        assert sum(text.isupper() == (label == "loud") for text in texts) >= 9, texts
    assert run(capsys, "sample", f"run_dir={labelled_run}", "label=soft", "beam=3")[0] == 0
    shutil.copytree(labelled_run, tmp_path / "run")
    assert main(["evaluate", f"run_dir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "evaluate.json").read_text())["metrics"]
    assert found["test/bits/loud"] == metrics["test/bits/loud"]


def test_a_label_that_is_missing_or_unknown_is_refused(labelled_run, char_run, capsys, text_file):
    words = ["sample", f"run_dir={labelled_run}"]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "missing label=...: this model writes texts of one of the labels loud, soft" in err
    code, out, err = run(capsys, *words, "label=sort")
    assert (code, out) == (2, "") and "label=sort is none of the labels loud, soft, did you mean 'soft'?" in err
    code, _, err = run(capsys, "sample", f"run_dir={char_run}", "label=loud")
    assert code == 2 and "label=loud is for character models that are told labels" in err
    code, _, err = run(capsys, "diagnose", f"run_dir={labelled_run}", f"input={text_file}")
    assert code == 2 and "missing label=..." in err


def test_predict_says_which_label_a_text_is_of(labelled_run, char_run, capsys, tmp_path):
    (tmp_path / "in.txt").write_text("3 birds sang la\n4 BIRDS SANG LA LA\n5 birds sang\n\n")
    words = ["predict", f"run_dir={labelled_run}", f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.tsv'}"]
    assert run(capsys, *words)[0] == 0
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [
        ["3 birds sang la", "soft"],
        ["4 BIRDS SANG LA LA", "loud"],
        ["5 birds sang", "soft"],
    ]
    assert all(0.9 < float(row[2]) <= 1 for row in rows)
    (tmp_path / "in.txt").write_text("3 birds\n\nla\n")
    code, _, err = run(capsys, *words)
    assert code == 2 and "in.txt:2: the text is empty" in err
    (tmp_path / "in.txt").write_text("")
    code, _, err = run(capsys, *words)
    assert code == 2 and "in.txt: is empty, a text a line is expected" in err
    words[1] = f"run_dir={char_run}"
    code, _, err = run(capsys, *words)
    assert code == 2 and "a character model answers no lines of a file: use `rnnlab sample`" in err


def test_diagnose_reads_a_text_of_a_label(labelled_run, capsys, tmp_path):
    shutil.copytree(labelled_run, tmp_path / "run")
    (tmp_path / "text.txt").write_text("3 birds sang la la\n" * 5)
    words = ["diagnose", f"run_dir={tmp_path / 'run'}"]
    assert run(capsys, *words)[0] == 0
    assert run(capsys, *words, "label=soft")[0] == 0
    assert run(capsys, *words, "label=soft", f"input={tmp_path / 'text.txt'}")[0] == 0
