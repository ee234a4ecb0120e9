"""Sequences of one class each: parts, scales, classes that training lacks, what a run remembers, answers."""

import sys

import numpy as np
import pytest
import torch

from rnnlab.data import MNIST1DData, SeriesFileData
from rnnlab.data.labelled import ClassData
from rnnlab.data.series_files import Series


def curves(number, seed=0, labels="ab"):
    """Return lines of a table: classes by turns, lengths from 3 to 8."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 9, size=number)
    rows = [(labels[row % len(labels)], rng.normal(2.0, 3.0, size)) for row, size in enumerate(sizes)]
    return "".join(f"{label}\t" + "\t".join(f"{value:.4f}" for value in values) + "\n" for label, values in rows)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "train.tsv").write_text(curves(40))
    return tmp_path / "train.tsv"


class Given(ClassData):
    """Serves given parts."""

    def __init__(self, scale="none", **parts):
        super().__init__(scale, 50, 100, 0)
        self.parts = parts

    def read_parts(self):
        return {part: list(series) for part, series in self.parts.items()}


def series(*rows):
    return [Series(str(number), np.array(values, dtype=float), label) for number, (label, values) in enumerate(rows)]


TRAIN = series(("b", [[1, 10], [3, 10]]), ("a", [[5, 10]]), ("b", [[7, 40], [9, 40], [5, 40]]))
VAL = series(("a", [[2, 1]]), ("new", [[2, 2]]))


def test_a_batch_has_padded_values_lengths_and_numbers_of_classes():
    data = Given(train=TRAIN, val=VAL)
    data.setup()
    batch = data.splits["train"][[0, 1, 2]]
    assert batch.values.shape == (3, 3, 2) and batch.values.dtype == torch.float32
    assert batch.lengths.tolist() == [2, 1, 3] and batch.labels.tolist() == [1, 0, 1]
    assert batch.values[:, 0].tolist() == [[1, 10], [3, 10], [0, 0]]
    assert data.sizes == {"input_size": 2, "num_classes": 2} and list(data.classes) == ["a", "b"]
    assert data.class_counts().tolist() == [1, 2] and data.epoch_size == 3


def test_a_class_that_training_lacks_is_named_and_counts_as_wrong():
    data = Given(train=TRAIN, val=VAL, test=VAL[:1])
    data.setup()
    assert data.notes == ["val: 1 of 2 sequences have a class that training lacks (new); each counts as wrong"]
    assert data.splits["val"][[0, 1]].labels.tolist() == [0, -1]
    assert data.baselines()["baseline/nearest/val/accuracy"] <= 0.5
    with pytest.raises(ValueError, match="there is nothing to learn: training has 1 classes, 2 are needed"):
        Given(train=TRAIN[:1], val=VAL).setup()


def test_scales():
    found = {}
    for scale in ("none", "series", "columns", "train"):
        data = Given(scale, train=TRAIN, val=VAL)
        data.setup()
        found[scale] = [values.double() for values in data.splits["train"].values]
    steps = np.concatenate([one.values for one in TRAIN])
    for row, one in enumerate(TRAIN):
        assert np.array_equal(found["none"][row], one.values)
        assert found["train"][row].numpy() == pytest.approx((one.values - steps.mean(0)) / steps.std(0), abs=1e-6)
    assert found["series"][2].mean() == pytest.approx(0, abs=1e-6)
    assert found["series"][2].std(correction=0) == pytest.approx(1, abs=1e-6)
    assert found["columns"][2].mean(0).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found["columns"][2][:, 1].tolist() == [0, 0, 0]  # a column that does not move stays finite
    with pytest.raises(ValueError, match="scale must be one of columns, none, series, train, got 'all'"):
        Given("all", train=TRAIN, val=VAL)


def test_what_was_made_of_training_is_trained_on_and_no_neighbour():
    more = series(*[("b", [[2, 1]])] * 5)
    data, plain = Given(train=TRAIN, val=VAL, more=more), Given(train=TRAIN, val=VAL)
    for module in (data, plain):
        module.setup()
    assert len(data.splits["train"]) == 8 and data.class_counts().tolist() == [1, 7]
    assert data.baselines() == plain.baselines() and data.state_dict() == plain.state_dict()


def test_for_test_validation_is_known_to_baselines_too():
    far = series(("a", [[90, 90]]))
    data = Given(train=TRAIN, val=VAL[:1] + far, test=series(("a", [[91, 91]])))
    data.setup()
    found = data.baselines()
    assert found["baseline/nearest/test/accuracy"] == 1 and found["baseline/nearest/val/accuracy"] == 0
    assert found["baseline/most_frequent/val/accuracy"] == 0


def test_parts_of_a_file(table):
    data = SeriesFileData(table, val_size=0.2)
    data.setup()
    assert {part: len(rows) for part, rows in data.series.items()} == {"train": 32, "val": 8}
    assert [one.label for one in data.series["val"]].count("a") == 4
    again = SeriesFileData(table, val_size=0.2, split_seed=1)
    again.setup()
    assert [one.name for one in data.series["val"]] != [one.name for one in again.series["val"]]


def test_folds_are_apart_and_make_up_the_file(table):
    names = []
    for fold in range(4):
        data = SeriesFileData(table, fold=fold, num_folds=4)
        data.setup()
        parts = {part: {one.name for one in rows} for part, rows in data.series.items()}
        assert len(parts["train"] | parts["val"] | parts["test"]) == 40 == sum(map(len, parts.values()))
        names += sorted(parts["test"])
    assert sorted(names, key=int) == [str(number) for number in range(1, 41)]


def test_batches_are_of_like_lengths_and_no_larger_than_allowed(table):
    data = SeriesFileData(table, batch_steps=30)
    data.setup()
    batches = list(data.train_dataloader())
    assert sum(len(batch.labels) for batch in batches) == len(data.splits["train"])
    assert all(batch.values.shape[0] * batch.values.shape[1] <= 30 for batch in batches)


def test_a_run_remembers_enough_to_answer_without_its_files(table, tmp_path):
    data, bare = SeriesFileData(table), SeriesFileData("gone.tsv")
    data.setup()
    bare.load_state_dict(data.state_dict())
    (tmp_path / "asked.tsv").write_text("?\t1\t2\t3\n?\t4\n?\t5\t6\t7\n")
    queries = bare.read_queries(tmp_path / "asked.tsv")
    batches = bare.query_batches(queries)
    assert [batch.lengths.tolist() for batch in batches] == [[1, 3, 3]]
    mean, deviation = (np.array(data.state_dict()[name]) for name in ("mean", "deviation"))
    assert batches[0].values[0, 0].item() == pytest.approx(((4 - mean) / deviation).item(), abs=1e-6)
    text = bare.write_answers(queries, [torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.25, 0.75]])])
    assert text == "1\tb\t0.8000\n2\ta\t0.9000\n3\tb\t0.7500\n"
    with pytest.raises(ValueError, match="scale is 'train' in the run, and cannot be 'none' afterwards"):
        SeriesFileData(table, scale="none").load_state_dict(data.state_dict())
    table.write_text(curves(40, seed=1))
    other = SeriesFileData(table)
    other.setup()
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        other.load_state_dict(data.state_dict())


def test_columns_of_questions_are_those_of_training(tmp_path):
    rows = "".join(
        f"{number},{time},{number + time},{number * time},{'ab'[number % 2]}\n"
        for number in range(20)
        for time in range(3)
    )
    (tmp_path / "train.csv").write_text("id,time,x,y,label\n" + rows)
    data = SeriesFileData(tmp_path / "train.csv")
    data.setup()
    (tmp_path / "swapped.csv").write_text("id,time,y,x\n1,0,1,2\n")
    with pytest.raises(ValueError, match="swapped.csv:1: values are y, x, and x, y in the run"):
        data.read_queries(tmp_path / "swapped.csv")
    (tmp_path / "narrow.tsv").write_text("a\t1\t2\n")
    with pytest.raises(ValueError, match="narrow.tsv: has 1 values a step, the run 2"):
        data.read_queries(tmp_path / "narrow.tsv")
    with pytest.raises(ValueError, match="narrow.tsv: has 1 values a step, .*train.csv has 2"):
        SeriesFileData(tmp_path / "train.csv", test=tmp_path / "narrow.tsv").setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold": 5}, "fold must be an integer from 0 to 4, got 5"),
        ({"fold": 0, "test": "x.tsv"}, "fold=0 takes the test part out of train, and test=x.tsv is another one"),
        ({"train": None}, "train must name a file of sequences and their classes, got None"),
        ({"label_column": "id"}, "id_column, time_column and label_column must differ"),
        ({"val_size": 0.01}, "holds out no sequence to validate with"),
        ({"train": "gone.tsv"}, "no file of sequences at gone.tsv"),
    ],
)
def test_what_is_refused(table, arguments, message):
    with pytest.raises(ValueError, match=message):
        SeriesFileData(**{"train": table, **arguments}).setup()


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_of_another_file_that_training_lacks_is_refused_with_its_row(table, tmp_path, part):
    (tmp_path / "other.tsv").write_text("a\t1\t2\n\nc\t3\n")
    with pytest.raises(ValueError, match=r"other.tsv:3: class 'c' is none of those of .*train.tsv: a, b"):
        SeriesFileData(table, **{part: tmp_path / "other.tsv"}).setup()


def test_a_sequence_without_class_is_refused_with_its_row(tmp_path):
    (tmp_path / "train.tsv").write_text("a\t1\t2\n\t5\t3\nb\t3\n")
    with pytest.raises(ValueError, match=r"train.tsv:2: the class is missing"):
        SeriesFileData(tmp_path / "train.tsv").setup()


@pytest.mark.parametrize("scale", ["series", "columns", "train"])
@pytest.mark.parametrize("spread", [0.0, 1e-9])
def test_what_does_not_move_but_by_rounding_is_zero(scale, spread):
    still = 1e5 * (0.1 + 0.1 * spread * np.array([1.0, -1.0, 1.0]))[:, None] + np.zeros((3, 7))
    data = Given(scale, train=series(("a", still), ("b", still)), val=series(("a", still)))
    data.setup()
    assert [values.abs().max().item() for values in data.splits["train"].values] == pytest.approx([0, 0], abs=1e-4)
    assert scale == "train" or not data.splits["val"].values[0].any()


def test_a_file_without_classes_is_nothing_to_learn_from(tmp_path):
    (tmp_path / "train.csv").write_text("id,time,x\n1,0,5\n1,1,6\n2,0,1\n")
    with pytest.raises(ValueError, match="train.csv:2: the class is missing"):
        SeriesFileData(tmp_path / "train.csv").setup()


def test_mnist1d_is_the_one_of_the_package_and_leaves_random_numbers_alone():
    package = pytest.importorskip("mnist1d.data")
    data = MNIST1DData(num_sequences=200)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    data.setup()
    assert (np.random.get_state()[1] == before).all()
    arguments = package.get_dataset_args()
    arguments.num_samples = 200
    expected = package.make_dataset(arguments)
    assert data.splits["test"][list(range(40))].values[:, :, 0].t().numpy() == pytest.approx(
        expected["x_test"], abs=1e-6
    )
    assert [int(one.label) for one in data.series["test"]] == expected["y_test"].tolist()
    rows = sorted(int(one.name) for part in ("train", "val") for one in data.series[part])
    assert rows == list(range(160)) and data.sizes == {"input_size": 1, "num_classes": 10}


def test_mnist1d_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(ValueError, match=r'pip install "rnnlab\[mnist1d\]"'):
        MNIST1DData().setup()
