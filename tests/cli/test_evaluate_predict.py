import io
import json
import shutil

import pytest

from rnnlab.callbacks.console import readable
from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.main import main


@pytest.fixture
def addition_run(addition_run, tmp_path):
    """A copy of the run, in which an evaluation leaves its results."""
    return shutil.copytree(addition_run, tmp_path / "run")


def test_evaluate_repeats_the_final_numbers(addition_run, capsys):
    assert main(["evaluate", f"run_dir={addition_run}"]) == 0
    result = json.loads((addition_run / "evaluate.json").read_text())
    final = json.loads((addition_run / "metrics.json").read_text())
    assert result["epoch"] == final["best_epoch"]
    assert result["metrics"] == {key: final[key] for key in result["metrics"]}
    assert "test/exact_match" in capsys.readouterr().out


def test_evaluate_last_under_other_settings(addition_run, capsys):
    assert main(["evaluate", f"run_dir={addition_run}", "ckpt=last", "data.batch_size=7"]) == 0
    result = json.loads((addition_run / "evaluate.json").read_text())
    last = read_rows(addition_run / "metrics.csv")[-1]
    assert result["overrides"] == ["data.batch_size=7"]
    assert result["metrics"]["val/loss"] == pytest.approx(last["val/loss"])
    assert "may hold what the run was trained on" not in capsys.readouterr().out


def test_evaluate_warns_of_other_data(addition_run, capsys):
    assert main(["evaluate", f"run_dir={addition_run}", "data.seed=5"]) == 0
    assert "may hold what the run was trained on" in capsys.readouterr().out


def test_evaluations_that_differ_are_kept(addition_run, capsys):
    for words in ([], ["ckpt=last"], ["ckpt=last", "data.batch_size=7"], [], ["ckpt=last"]):
        assert main(["evaluate", f"run_dir={addition_run}", *words]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
    assert last == str(addition_run / "evaluate_2.json")
    found = [json.loads((addition_run / f"evaluate{number}.json").read_text()) for number in ("", "_2", "_3")]
    assert [result["overrides"] for result in found] == [[], [], ["data.batch_size=7"]]
    assert not (addition_run / "evaluate_4.json").exists()


def test_results_about_a_run_that_cannot_be_written_go_to_the_working_directory(
    addition_run, tmp_path, capsys, monkeypatch
):
    before = sorted(addition_run.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnnlab.cli.options.os.access", lambda path, _: path != addition_run)
    results = tmp_path / f"{addition_run.name}_results"
    assert main(["evaluate", f"run_dir={addition_run}"]) == 0
    assert capsys.readouterr().err == f"rnnlab: {addition_run} cannot be written, results go to {results}\n"
    assert main(["diagnose", f"run_dir={addition_run}"]) == 0
    found = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    assert found == {"evaluate.json", "figures/gradient_flow.png", "figures/learning_curves.png"}
    assert sorted(addition_run.rglob("*")) == before


def test_predict_from_stdin_to_stdout(addition_run, capsys, monkeypatch):
    def answer(text):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        capsys.readouterr()
        return main(["predict", f"run_dir={addition_run}", "input=-", "output=-"]), capsys.readouterr()

    code, output = answer(b"1+1\n12+34\n")
    assert (code, output.err) == (0, "")
    assert [line.split("\t")[0] for line in output.out.splitlines()] == ["1+1", "12+34"]
    code, output = answer(b"1+1\nfoo\n")
    assert (code, output.out) == (2, "")
    assert output.err.startswith("rnnlab: stdin:2: expected a question")


def test_predict_answers_every_line(addition_run, tmp_path):
    (tmp_path / "in.txt").write_text("1+1\n12+34\n 5 + 99\n")
    words = [f"run_dir={addition_run}", f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.txt'}"]
    assert main(["predict", *words]) == 0
    lines = [line.split("\t") for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert [question for question, _ in lines] == ["1+1", "12+34", "5+99"]
    assert {path.name for path in tmp_path.iterdir() if path != addition_run} == {"in.txt", "out.txt"}


def test_predict_continues_a_series(series_run, csv_file, tmp_path):
    words = [f"run_dir={series_run}", f"input={csv_file}", f"output={tmp_path / 'out.csv'}", "ckpt=last"]
    assert main(["predict", *words]) == 0
    header, row = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "step,level"
    step, value = row.split(",")
    assert (int(step), float(value) > 0) == (1, True)


def test_predict_reads_other_encodings(series_run, csv_file, tmp_path, capsys):
    (tmp_path / "in.csv").write_bytes(csv_file.read_text().encode("utf-16"))
    words = ["predict", f"run_dir={series_run}", f"input={tmp_path / 'in.csv'}", f"output={tmp_path / 'out.csv'}"]
    assert main(words) == 2
    assert "it begins like UTF-16: encoding=utf-16" in capsys.readouterr().err and not (tmp_path / "out.csv").exists()
    assert main([*words, "encoding=utf-15"]) == 2
    assert "encoding must be one that Python knows" in capsys.readouterr().err
    assert main([*words, "encoding=utf-16"]) == 0
    former = (tmp_path / "out.csv").read_text()
    assert main([*words[:2], f"input={csv_file}", *words[3:]]) == 0
    assert (tmp_path / "out.csv").read_text() == former


def test_numbers_of_a_table_keep_what_stands_before_the_point():
    numbers = [73429300.4, -1e6, 999999.5, 999999.4, 0.000123456789, 1e15, float("nan")]
    expected = ["73429300", "-1000000", "1000000", "999999", "0.000123457", "1e+15", "nan"]
    assert [readable(number) for number in numbers] == expected
