"""Pairs of sequences on the command line: records, answers, n best, attention, what is refused."""

import csv
import json
import shutil

import pytest

from rnnlab.cli.main import main


def predict(run_dir, source, target, *words):
    return main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}", *words])


def test_records_of_a_run(pairs_run):
    metrics = json.loads((pairs_run / "metrics.json").read_text())
    assert metrics["test/exact_match"] > 0.9
    assert metrics.keys() >= {
        *(f"{split}/{name}" for split in ("val", "test") for name in ("loss", "exact_match", "symbol_error")),
        *("baseline/copy/test/exact_match", "time/target_symbols_per_s"),
    }
    with (pairs_run / "lengths.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["length"] for row in rows] == ["2", "3", "4"][-len(rows) :]
    right, total = (sum(float(row[name]) for row in rows) for name in ("right", "total"))
    assert right / total == pytest.approx(metrics["test/exact_match"])
    for name in ("attention", "by_length", "learning_curves"):
        assert (pairs_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "right: " in (pairs_run / "run.log").read_text(encoding="utf-8")  # of the first epoch


def test_predict_answers_a_line_with_a_line(pairs_run, tmp_path):
    (tmp_path / "in.txt").write_text("abcd\ncea\nbad\n")
    # What it was trained on need not be there.
    assert predict(pairs_run, tmp_path / "in.txt", tmp_path / "out.tsv", "data.train=gone") == 0
    assert (tmp_path / "out.tsv").read_text() == "abcd\tABCD\ncea\tCEA\nbad\tBAD\n"


def test_predict_gives_n_best_with_their_log_probabilities(pairs_run, tmp_path):
    (tmp_path / "in.txt").write_text("abcd\ncea\n")
    assert predict(pairs_run, tmp_path / "in.txt", tmp_path / "out.tsv", "n_best=3", "beam=4") == 0
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["abcd"] * 3 + ["cea"] * 3
    assert rows[0][1] == "ABCD" and rows[3][1] == "CEA"
    for first in (0, 3):
        values = [float(row[2]) for row in rows[first : first + 3]]
        assert 0 >= values[0] > values[1] > values[2]


def test_predict_tells_what_it_does_not_know(pairs_run, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("abÄ\ncea\n", encoding="utf-8")
    assert predict(pairs_run, tmp_path / "in.txt", tmp_path / "out.tsv") == 0
    told = "1 of 2 sources have a symbol that training lacks ('Ä'), which is read as unknown"
    assert told in capsys.readouterr().err
    (tmp_path / "in.txt").write_text("cea\tCEA\n")
    assert predict(pairs_run, tmp_path / "in.txt", tmp_path / "out2.tsv") == 2
    assert "in.txt:1: a source has no tab" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.shared_vocabulary=true"], "shared_vocabulary is False in the run, and cannot be True afterwards"),
        (["data.tokens=words"], "source_tokens is 'characters' in the run, and cannot be 'words' afterwards"),
        (["n_best=0"], "n_best must be an integer of at least 1, got '0'"),
        (["beam=many"], "beam must be an integer of at least 1, got 'many'"),
        (["n_best=3", "beam=2"], "n_best must be at most beam, got 3 and 2"),
    ],
)
def test_predict_refuses(pairs_run, tmp_path, capsys, words, message):
    (tmp_path / "in.txt").write_text("ab\n")
    assert predict(pairs_run, tmp_path / "in.txt", tmp_path / "out.tsv", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()


def test_a_search_is_for_models_of_pairs(addition_run, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("1+2\n")
    assert predict(addition_run, tmp_path / "in.txt", tmp_path / "out.txt", "n_best=2") == 2
    assert "n_best are for models of pairs of sequences" in capsys.readouterr().err.replace("n_best is", "n_best are")


def test_diagnose_draws_attention_of_validation_or_of_a_file(pairs_run, tmp_path, capsys):
    run_dir = tmp_path / "pairs"
    shutil.copytree(pairs_run, run_dir)
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    (tmp_path / "in.txt").write_text("abc\n")
    before = (run_dir / "figures" / "attention.png").read_bytes()
    assert main(["diagnose", f"run_dir={run_dir}", f"input={tmp_path / 'in.txt'}", "data.train=gone"]) == 0
    assert (run_dir / "figures" / "attention.png").read_bytes() == before
    assert (run_dir / "figures" / "attention_in.png").read_bytes() != before
    assert main(["diagnose", f"run_dir={run_dir}", "length=100"]) == 2
    assert "length is for character models" in capsys.readouterr().err


def test_evaluate_with_a_wider_beam(pairs_run, tmp_path):
    run_dir = tmp_path / "pairs"
    shutil.copytree(pairs_run, run_dir)
    assert main(["evaluate", f"run_dir={run_dir}", "task.beam=3"]) == 0
    metrics = json.loads((run_dir / "evaluate.json").read_text())["metrics"]
    assert metrics["test/exact_match"] > 0.9


def test_a_source_beyond_the_positions_of_a_model_is_refused(pairs_file, tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = ["experiment=seq2seq/dates_transformer", "data=pairs", f"data.train={pairs_file}", "logger=csv"]
    words += ["model.positions=learned", "model.max_length=39", "model.width=8", "model.feed_forward=8"]
    words += ["trainer.max_epochs=1", "trainer.accelerator=cpu"]
    assert main(["train", f"run_dir={run_dir}", *words]) == 0
    source = tmp_path / "q.txt"
    source.write_text("ab" * 20 + "\n")
    assert predict(run_dir, source, tmp_path / "a.tsv") == 2
    assert (
        "40 symbols is longer than model.max_length=39" in capsys.readouterr().err and not (tmp_path / "a.tsv").exists()
    )
