"""`rnnlab study`: files, table, verdict and exit code; studies themselves are in tests/studies."""

import csv

import pytest
import torch

from rnnlab.cli.main import main
from rnnlab.studies import QUESTIONS, relu
from rnnlab.studies.outcome import Claim


@pytest.fixture
def quick(monkeypatch):
    """`exploding` in a moment: whether theory is right is not asked here."""
    study = relu.study
    small = lambda s, title, *sizes: study(s, title, 30, 4, 3)._replace(claims=[Claim("one", 1.0, "=", 1.0)])  # noqa: E731
    monkeypatch.setattr(relu, "study", small)


def test_without_a_name_studies_are_listed(capsys):
    assert main(["study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(QUESTIONS)
    assert all(line.endswith("?") for line in lines)


def test_a_study_writes_picture_and_numbers_and_ends_with_its_verdict(quick, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    assert main(["study", "exploding", f"out={out}", "seed=3"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["exploding.csv", "exploding.png"]
    assert (out / "exploding.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((out / "exploding.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 4 and {row["s"] for row in rows} == {"3", "2"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["claim", "measured", "theory", "allowed"] and lines[-2].endswith("yes")
    assert lines[-1].startswith("verdict: theory and measurement agree in all 1 claims: ")


def test_disagreement_is_exit_code_1_and_written_all_the_same(quick, monkeypatch, tmp_path, capsys):
    study = relu.study
    monkeypatch.setattr(relu, "study", lambda *all: study(*all)._replace(claims=[Claim("one", 1.0, "=", 2.0)]))
    assert main(["study", "exploding", f"out={tmp_path}"]) == 1
    assert capsys.readouterr().out.endswith("verdict: theory and measurement disagree in 1 of 1 claims: one\n")
    assert (tmp_path / "exploding.png").is_file()


def test_a_seed_decides_the_numbers_and_leaves_the_generator_alone(quick, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main(["study", "exploding", f"out={tmp_path / folder}", f"seed={seed}"]) == 0
    assert torch.equal(torch.rand(1), expected)
    a, b, c = (tmp_path / folder / "exploding.csv" for folder in "abc")
    assert a.read_text() == b.read_text() != c.read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["explodin", "out=a"], "unknown study 'explodin', did you mean 'exploding'?; studies are exploding, "),
        (["exploding"], "missing out=..."),
        (["exploding", "out=a", "sed=1"], "study has no option 'sed', did you mean 'seed'?; it takes out and seed"),
        (["exploding", "out=a", "seed=x"], "seed must be an integer from 0 to 4294967295, got 'x'"),
        (["exploding", "out="], "out=: nothing is no folder"),
        (["exploding", "out=file"], "out=file: "),
        (["exploding", "out=file/a"], "out=file/a: "),
        (["exploding", "out=taken"], "exploding.png is a folder, and a file is to be written there"),
        (["out=a"], "unknown study 'out=a'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "exploding.png").mkdir(parents=True)
    assert main(["study", *words]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_folder_that_cannot_be_written_is_refused_beforehand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rnnlab.cli.options.os.access", lambda path, mode: False)
    assert main(["study", "exploding", f"out={tmp_path / 'a'}"]) == 2
    assert f"out={tmp_path / 'a'}: the folder {tmp_path} cannot be written" in capsys.readouterr().err
