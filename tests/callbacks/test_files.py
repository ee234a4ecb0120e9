import pytest

from rnnlab.callbacks.files import is_empty, write_atomically, write_text


def test_a_failing_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_is_empty_looks_past_leftovers_of_killed_writes(tmp_path):
    assert is_empty(tmp_path / "missing")
    (tmp_path / ".config.yaml.part").write_text("half")
    assert is_empty(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert not is_empty(tmp_path)
