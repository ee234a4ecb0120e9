"""Labelled texts: no character lost, each text at the beginning of a window with its label, what is refused."""

import numpy as np
import pytest
import torch

from rnnlab.baselines import witten_bell
from rnnlab.data import LabelledTextData
from rnnlab.data.batches import IGNORED
from rnnlab.data.label_files import read_labelled, stdlib_names
from rnnlab.data.vocabulary import START


def write(path, rows):
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    return path


@pytest.fixture
def lines(tmp_path):
    """Texts of 1 to 9 characters, forty of 'a' and ten of 'b', and one of 30 characters."""
    rows = [("ab"[index % 5 == 0], "x" * (index % 9) + "abcdefghij"[index % 10]) for index in range(50)]
    return write(tmp_path / "lines.tsv", [*rows, ("a", "z" * 30)])


def served(data, loader):
    """Return the texts that the windows of a loader hold, with their labels, and where a state begins anew."""
    windows = list(loader)
    assert not any(window.resets_inside for window in windows)
    inputs, targets, reset, labels = (
        torch.cat([getattr(window, name) for window in windows], dim=1)
        for name in ("inputs", "targets", "reset", "labels")
    )
    found = []
    for row in range(len(inputs)):
        for begin, end in zip((starts := reset[row].nonzero()[:, 0].tolist()), [*starts[1:], None], strict=True):
            kept = targets[row, begin:end] != IGNORED
            ids = targets[row, begin:end][kept]
            assert kept[: len(ids)].all()  # padding comes last
            assert torch.equal(inputs[row, begin:end][1 : len(ids)], ids[:-1])
            (label,) = set(labels[row, begin:end][kept].tolist())
            found.append(("".join(data.vocabulary.decode(ids.tolist())), label, int(inputs[row, begin])))
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 12])
@pytest.mark.parametrize("steps", [1, 4, 40])
def test_every_text_is_served_once_with_its_label(lines, batch_size, steps):
    data = LabelledTextData(lines, batch_size=batch_size, tbptt_steps=steps)
    data.setup()
    assert data.labels == ("a", "b") and data.sizes == {"vocab_size": len(data.vocabulary), "num_labels": 2}
    for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        expected = [(one.text, one.label, data.vocabulary[START]) for one in data.documents[part]]
        assert sorted(served(data, loader)) == sorted(expected)
    pieces = served(data, data.train_dataloader())
    whole = [one.text for one in data.documents["train"]]
    assert sum(len(text) for text, *_ in pieces) == sum(map(len, whole)) == data.epoch_size
    begun = {text for text, _, before in pieces if before == data.vocabulary[START]}
    assert {text for text in begun if text.endswith("\n")} <= set(whole)
    if batch_size == 1:
        assert sorted(text for text, *_ in pieces) == sorted(whole)
    assert len(data.splits["train"][0]) == batch_size


def test_a_text_longer_than_a_row_is_cut_in_training_alone(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "text").write_text(f"{label}bcdefghij" * 100)
    data = LabelledTextData(tmp_path, split="90/10", batch_size=10, tbptt_steps=8)
    data.setup()
    assert data.ending is None
    pieces = served(data, data.train_dataloader())
    assert sum(len(text) for text, *_ in pieces) == 1800 and max(len(text) for text, *_ in pieces) < 200
    inputs, targets, reset, _ = data.splits["val"]
    assert inputs.shape == (2, 600) and reset.sum() == 2
    assert (targets[:, :500] == IGNORED).all() and (targets[:, 500:] != IGNORED).all()
    assert {len(one.context) for one in data.documents["val"]} == {500}


def test_parts_are_those_of_each_label(lines, tmp_path):
    data = LabelledTextData(lines, batch_size=4)
    data.setup()
    counts = {part: np.bincount([one.label for one in data.documents[part]]).tolist() for part in data.documents}
    assert counts == {"train": [33, 8], "val": [4, 1], "test": [4, 1]}
    assert data.ending == "\n"
    data = LabelledTextData(lines, split="none", val=write(tmp_path / "val.tsv", [("b", "xx")]), batch_size=4)
    data.setup()
    assert [tuple(one) for one in data.documents["val"]] == [("xx\n", "", 1)] and "test" not in data.splits


def test_another_window_is_laid_out_anew(lines):
    data = LabelledTextData(lines, batch_size=3, tbptt_steps=4)
    data.setup()
    expected = served(data, data.windows("val", 4))
    assert sorted(served(data, data.windows("val", 9))) == sorted(expected)


def test_a_run_knows_its_labels_without_its_texts(lines, tmp_path):
    data = LabelledTextData(lines, batch_size=4)
    data.setup()
    other = LabelledTextData("gone.tsv")
    other.load_state_dict(data.state_dict())
    assert (other.labels, other.ending, other.sizes) == (data.labels, "\n", data.sizes)
    swapped = LabelledTextData(write(tmp_path / "swapped.tsv", [("b", "xa")] * 20 + [("c", "x")] * 20), batch_size=4)
    swapped.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match=r"swapped.tsv: has labels b, c, and this run knows a, b"):
        swapped.setup()


def test_each_label_has_an_ngram_of_its_own(lines):
    data = LabelledTextData(lines, batch_size=4, ngram_order=3)
    data.setup()
    found = data.baselines()
    nats, size = [], len(data.vocabulary) - 1
    for number, label in enumerate(data.labels):
        train, test = (
            [np.array(data.vocabulary.encode(one.text)) - 1 for one in data.documents[part] if one.label == number]
            for part in ("train", "test")
        )
        nats.append(witten_bell(train, test, size, 3)[-1])
        assert found[f"baseline/3gram_by_label/test/bits/{label}"] == pytest.approx(nats[-1].mean() / np.log(2))
    assert found["baseline/3gram_by_label/test/bits"] == pytest.approx(np.concatenate(nats).mean() / np.log(2))
    assert "baseline/3gram/test/bits" in found


def test_names_of_the_library():
    names = stdlib_names()
    assert list(names) == ["class", "constant", "exception", "function"]
    assert all(len(set(found)) == len(found) > 50 for found in names.values())
    assert "OrderedDict\n" in names["class"] and "JSONDecodeError\n" in names["exception"]
    assert "_replace\n" in names["function"] and names == stdlib_names()


def test_folders_are_labels(tmp_path, monkeypatch):
    for name in ("b/2.txt", "b/1.txt", "a/deep/3.txt", ".git/x", "b/.hidden"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(name)
    (tmp_path / "texts" / "README").write_text("of no label")
    expected = {"a": ["a/deep/3.txt"], "b": ["b/1.txt", "b/2.txt"]}
    assert read_labelled(tmp_path / "texts") == expected
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    assert read_labelled("texts") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tx\nb y\n", r"bad.tsv:2: expected a label, a tab and a text, got no tab: 'b y'"),
        ("a\tx\n\nb\ty\n", r"bad.tsv:2: expected a label, a tab and a text, got no tab: ''"),
        ("a\tx\n\ty\n", r"bad.tsv:2: the label is empty"),
        ("a\tx\n \ty\n", r"bad.tsv:2: the label is empty"),
        ("a\tx\nb\t\n", r"bad.tsv:2: the text is empty"),
        ("", r"bad.tsv: is empty, lines of a label, a tab and a text are expected"),
        ("a\tx\n" * 30, r"bad.tsv: has the label 'a' alone, and at least 2 are needed"),
        ("a\tx\n" * 30 + "b\ty\n", r"bad.tsv: label 'b': split=files/test leaves no character for val"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, content, message):
    (tmp_path / "bad.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        LabelledTextData(tmp_path / "bad.tsv").setup()


def test_what_does_not_fit_is_refused(tmp_path, lines):
    with pytest.raises(ValueError, match=r"no folder or file of labelled texts at gone"):
        LabelledTextData("gone").setup()
    with pytest.raises(ValueError, match=r"split=char-rnn cuts one text into streams"):
        LabelledTextData(lines, split="char-rnn")
    with pytest.raises(ValueError, match=r"val.tsv: has a label 'c', and training has a, b"):
        LabelledTextData(lines, val=write(tmp_path / "val.tsv", [("c", "x")])).setup()
    with pytest.raises(ValueError, match=r"batch_size must be at most the 42 windows of training, got 50"):
        LabelledTextData(lines).setup()
    (tmp_path / "texts" / "empty").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"the label 'empty' has no text: the folder holds no file"):
        read_labelled(tmp_path / "texts")
    (tmp_path / "texts" / "empty" / "1.txt").write_text("")
    with pytest.raises(ValueError, match=r"1.txt: is empty"):
        read_labelled(tmp_path / "texts")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none: has no folder: one for each label, with its texts, is expected"):
        read_labelled(tmp_path / "none")
