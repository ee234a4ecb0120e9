"""A tagger on the command line: its records, its answers, what it refuses."""

import csv
import json
import shutil

import pytest

from rnnlab.cli.main import main


def predict(tagger_run, source, target, *words):
    return main(["predict", f"run_dir={tagger_run}", f"input={source}", f"output={target}", *words])


def test_records_of_a_tagger(tagger_run):
    metrics = json.loads((tagger_run / "metrics.json").read_text())
    assert metrics["val/accuracy"] > 0.95  # five rules and six words
    assert metrics.keys() >= {
        *("val/loss", "val/macro_f1", "val/sentence_accuracy", "time/tokens_per_s", "memory/peak_mib"),
        *(f"baseline/{name}/val/accuracy" for name in ("most_frequent", "suffix", "hmm")),
    }
    assert metrics["baseline/most_frequent/val/accuracy"] < metrics["baseline/hmm/val/accuracy"] <= 1
    with (tagger_run / "tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tag"] for row in rows] == ["DET", "NOUN", "PUNCT", "VERB"]
    assert sum(int(row["support"]) for row in rows) == 60 * 6
    for name in ("confusion_val", "learning_curves"):
        assert (tagger_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_predict_fills_one_column_and_changes_no_other_byte(tagger_run, conllu_file, tmp_path, ending):
    text = conllu_file.read_text().replace("\n", ending)
    empty = "".join(
        "\t".join([*cells[:3], "_", *cells[4:]]) if len(cells := line.split("\t")) > 4 and cells[0].isdigit() else line
        for line in text.splitlines(keepends=True)
    )
    assert empty != text
    (tmp_path / "in.conllu").write_bytes(empty.encode())
    # The files it was trained on need not be there.
    assert predict(tagger_run, tmp_path / "in.conllu", tmp_path / "out.conllu", "data.train=gone", "data.val=gone") == 0
    found, expected = ((tmp_path / "out.conllu").read_bytes().decode().split(ending), text.split(ending))
    differing = [(a, b) for a, b in zip(found, expected, strict=True) if a != b]
    assert len(differing) <= 0.05 * 360
    for a, b in differing:  # wrong tags, nothing else
        assert [cell for k, cell in enumerate(a.split("\t")) if k != 3] == [
            cell for k, cell in enumerate(b.split("\t")) if k != 3
        ]


@pytest.mark.parametrize("name", ["in.txt", "in.tsv", "in.CONLLU"])
@pytest.mark.parametrize("start", ["\ufeff", "# a\u2028b\n", "# a\x0cb\n"])
def test_conllu_of_any_name_is_filled(tagger_run, conllu_file, tmp_path, name, start):
    text = start + conllu_file.read_text().partition("\n\n")[0] + "\n\n"
    (tmp_path / name).write_text(text)
    assert predict(tagger_run, tmp_path / name, tmp_path / "out.conllu") == 0
    assert (tmp_path / "out.conllu").read_text() == text


def test_predict_tags_plain_text(tagger_run, tmp_path):
    (tmp_path / "in.txt").write_text("the dog sees a walk .\n\nunheard words\n")
    assert predict(tagger_run, tmp_path / "in.txt", tmp_path / "out.conllu") == 0
    lines = (tmp_path / "out.conllu").read_text().splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    assert [row[1] for row in rows] == ["the", "dog", "sees", "a", "walk", ".", "unheard", "words"]
    assert [row[3] for row in rows[:6]] == ["DET", "NOUN", "VERB", "DET", "NOUN", "PUNCT"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tthe\t_\n\n", ":1: "),
        ("1\tthe" + "\t_" * 8 + "\n3\tdog" + "\t_" * 8 + "\n\n", ":2: "),
        ("", "in.conllu: "),
    ],
)
def test_predict_refuses_broken_files(tagger_run, tmp_path, capsys, content, message):
    for name in ("in.conllu", "in.txt")[: 2 if content else 1]:
        (tmp_path / name).write_text(content)
        assert predict(tagger_run, tmp_path / name, tmp_path / "out.conllu") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and not (tmp_path / "out.conllu").exists()


def test_evaluate_takes_a_held_out_file(tagger_run, conllu_file, capsys, tmp_path):
    tagger_run = shutil.copytree(tagger_run, tmp_path / "run")
    assert main(["evaluate", f"run_dir={tagger_run}", f"data.test={conllu_file}"]) == 0
    found = json.loads((tagger_run / "evaluate.json").read_text())["metrics"]
    stored = json.loads((tagger_run / "metrics.json").read_text())
    assert found["test/accuracy"] == found["val/accuracy"] == stored["val/accuracy"]
    assert found["baseline/hmm/test/accuracy"] == stored["baseline/hmm/val/accuracy"]


def test_evaluate_refuses_another_training_file(tagger_run, tmp_path, conllu_file, capsys):
    (tmp_path / "other.conllu").write_text(conllu_file.read_text().replace("dog", "cat"))
    assert main(["evaluate", f"run_dir={tagger_run}", f"data.train={tmp_path / 'other.conllu'}"]) == 2
    assert "not the one this run was trained on" in capsys.readouterr().err


def test_diagnose_draws_a_tagger(tagger_run, capsys, tmp_path):
    tagger_run = shutil.copytree(tagger_run, tmp_path / "run")
    (tagger_run / "figures" / "confusion_val.png").unlink()
    assert main(["diagnose", f"run_dir={tagger_run}"]) == 0
    out = capsys.readouterr().out
    assert "figures/confusion_val.png" in out and (tagger_run / "figures" / "confusion_val.png").exists()


def test_tags_that_training_lacks_are_wrong_and_counted_in_every_file(tmp_path, conllu_file, capsys):
    (tmp_path / "rare.conllu").write_text(conllu_file.read_text() + "1\twow\t_\tINTJ" + "\t_" * 6 + "\n\n")
    words = ["trainer.max_epochs=1", "rnn.hidden_size=4", "trainer.accelerator=cpu", "logger=csv", "callbacks=none"]
    rare, run_dir, note = (
        f"={tmp_path / 'rare.conllu'}",
        tmp_path / "run",
        ": 1 of 361 words have a tag that training lacks",
    )
    train = [
        "train",
        "experiment=pos_tagging/ewt",
        f"run_dir={run_dir}",
        f"data.train={conllu_file}",
        f"data.val{rare}",
    ]
    assert main([*train, *words]) == 0
    assert f"val{note} (INTJ); each counts as wrong" in capsys.readouterr().out
    assert f"val{note}" in (run_dir / "run.log").read_text()
    assert json.loads((run_dir / "metrics.json").read_text())["val/unknown_tags"] == 1 / 361
    assert main(["evaluate", f"run_dir={run_dir}", f"data.val={conllu_file}", f"data.test{rare}"]) == 0
    out, found = capsys.readouterr().out, json.loads((run_dir / "evaluate.json").read_text())["metrics"]
    assert f"test{note}" in out and "val: " not in out and "val/unknown_tags" not in found
    assert found["test/unknown_tags"] == 1 / 361
    assert found["test/accuracy"] == pytest.approx(found["val/accuracy"] * 360 / 361)
    assert found["test/loss"] == pytest.approx(found["val/loss"])  # of the tags that it knows


def test_a_file_without_tags_is_refused(tagger_run, tmp_path, capsys):
    (tmp_path / "untagged.conllu").write_text("1\tthe" + "\t_" * 8 + "\n\n")
    assert main(["evaluate", f"run_dir={tagger_run}", f"data.test={tmp_path / 'untagged.conllu'}"]) == 2
    assert "the test part has no tag as upos" in capsys.readouterr().err


def test_a_treebank_of_ones_own_is_validated_on_itself(tmp_path, conllu_file, capsys):
    words = ["trainer.max_epochs=1", "rnn.hidden_size=4", "trainer.accelerator=cpu", "logger=csv", "callbacks=none"]
    run_dir, note = (
        tmp_path / "run",
        f"val: no file is given, and it is 6 of the sentences of {conllu_file}, each tenth",
    )
    assert main(["train", "experiment=pos_tagging/ewt", f"data.train={conllu_file}", f"run_dir={run_dir}", *words]) == 0
    assert note in capsys.readouterr().out
    stored = json.loads((run_dir / "metrics.json").read_text())
    assert main(["evaluate", f"run_dir={run_dir}", f"data.test={conllu_file}"]) == 0
    assert note in capsys.readouterr().out
    found = json.loads((run_dir / "evaluate.json").read_text())["metrics"]
    assert found["val/accuracy"] == stored["val/accuracy"] and "test/accuracy" in found


@pytest.mark.slow
def test_one_batch_can_be_overfitted(tmp_path, conllu_file):
    words = [f"data.train={conllu_file}", f"data.val={conllu_file}", "rnn.hidden_size=8", "trainer.accelerator=cpu"]
    run_dir = tmp_path / "run"
    code = main(
        ["train", "experiment=pos_tagging/ewt", "debug=overfit", "trainer.max_epochs=60", f"run_dir={run_dir}", *words]
    )
    assert code == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["val/accuracy"] > 0.9 and "time/tokens_per_s" not in metrics


def test_treebanks_are_known_by_their_first_line(tagger_run, conllu_file, tmp_path):
    (tmp_path / "in.conll").write_text(conllu_file.read_text())
    assert predict(tagger_run, tmp_path / "in.conll", tmp_path / "out.conll") == 0
    assert (tmp_path / "out.conll").read_text().count("\n") == conllu_file.read_text().count("\n")
    assert predict(tagger_run, tmp_path / "in.conll", tmp_path / "out.conll.gz") == 2


def test_offline_the_user_learns_what_to_place_where(capsys, monkeypatch, tmp_path):
    from rnnlab.data import corpora

    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    name = "ud-ewt/en_ewt-ud-train.conllu"
    monkeypatch.setitem(corpora.FILES, name, corpora.RemoteFile("http://127.0.0.1:9/x", "0" * 64))
    assert main(["train", "experiment=pos_tagging/ewt", f"run_dir={tmp_path / 'run'}"]) == 2
    *_, error = capsys.readouterr().err.splitlines()  # behind pooch's note of what it downloads
    assert f"place the file of http://127.0.0.1:9/x at {tmp_path / name}" in error


def test_a_missing_corpus_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    code = main(["train", "experiment=pos_tagging/ewt", "data.train=ud-xx/none.conllu", f"run_dir={tmp_path / 'run'}"])
    error = capsys.readouterr().err
    assert code == 2 and "no CoNLL-U file at ud-xx/none.conllu or" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
