"""Where answers may go: never in the place of what is read, nor of anything that is no file."""

import shutil

from tests.cli.test_bad_input import refuse


def test_predict_refuses_an_impossible_output(capsys, addition_run, tmp_path):
    (tmp_path / "in.txt").write_text("1+1\n")
    words = ["predict", f"run_dir={addition_run}", f"input={tmp_path / 'in.txt'}"]
    refuse(capsys, [*words, f"output={tmp_path / 'no' / 'out.txt'}"], "does not exist")
    refuse(capsys, [*words, f"output={tmp_path}"], "is a folder")


def test_answers_never_replace_what_is_read(capsys, monkeypatch, addition_run, tmp_path):
    source, run_dir = tmp_path / "in.txt", tmp_path / "addition"
    source.write_text("1+1\n")
    shutil.copytree(addition_run, run_dir)
    link, hard, folder = tmp_path / "link.txt", tmp_path / "hard.txt", tmp_path / "folder"
    link.symlink_to(source)
    hard.hardlink_to(source)
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def both_refused(given, output):
        refuse(capsys, ["predict", f"run_dir={run_dir}", f"input={given}", f"output={output}"], "which is read")

    for output in (source, link, hard, "../in.txt", folder / ".." / "in.txt"):
        both_refused(source, output)
        both_refused(link, output)
    both_refused(tmp_path, tmp_path / "out.txt")
    both_refused(tmp_path, folder / "out.txt")
    both_refused(source, run_dir / "config.yaml")
    both_refused(source, run_dir / "checkpoints" / "best.ckpt")
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    both_refused("in.txt", source)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_texts_never_replace_what_is_read(capsys, char_run, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\n")
    for output in (prompts, tmp_path / ".." / tmp_path.name / "prompts.txt", char_run / "config.yaml"):
        words = ["sample", f"run_dir={char_run}", f"prompts={prompts}", "length=5", f"output={output}"]
        refuse(capsys, words, "which is read: it needs another name")
    assert prompts.read_text() == "a\n"


def test_answers_replace_files_alone(capsys, addition_run, tmp_path):
    (tmp_path / "in.txt").write_text("1+1\n")
    words = ["predict", f"run_dir={addition_run}", f"input={tmp_path / 'in.txt'}", "output=/dev/null"]
    refuse(capsys, words, "output=/dev/null is no file that could be replaced; output=- is stdout")
