"""The adding problem: what is marked is added, one mark stands in each half, no training sequence comes twice."""

import pytest
import torch

from rnnlab.data import AddingData


def made(**arguments):
    data = AddingData(**{"length": 21, "num_train": 40, "num_val": 300, "num_test": 300, "batch_size": 8, **arguments})
    data.setup()
    return data


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_targets_are_the_sums_of_the_marked_numbers():
    x, y = made().splits["test"]
    assert x.shape == (300, 21, 2) and y.shape == (300, 1) and x.dtype == y.dtype == torch.float32
    for numbers, total in zip(x.tolist(), y[:, 0].tolist(), strict=True):
        marked = [step for step, (_, mark) in enumerate(numbers) if mark]
        assert len(marked) == 2 and marked[0] < 10 <= marked[1]
        assert sum(numbers[step][0] for step in marked) == pytest.approx(total, abs=1e-6)
    assert 0.47 < x[..., 0].mean() < 0.53 and x[..., 0].max() < 1
    assert set(x[..., 1].unique().tolist()) == {0.0, 1.0}


def test_always_one_costs_a_sixth():
    _, y = made(num_test=5_000).splits["test"]
    assert (y - 1).square().mean().item() == pytest.approx(
        made().baselines()["baseline/chance/test/mse_last"], rel=0.05
    )


def test_training_sequences_are_drawn_anew_and_known_by_epoch():
    loader = made().train_dataloader()
    first, second = (torch.cat([x for x, _ in epoch_of(loader, epoch)]) for epoch in (0, 1))
    assert len(first) == 40 and len({tuple(row[:, 0].tolist()) for row in torch.cat([first, second])}) == 80
    again = torch.cat([x for x, _ in epoch_of(made().train_dataloader(), 1)])
    assert torch.equal(again, second)
    other = torch.cat([x for x, _ in epoch_of(made(corpus_seed=1).train_dataloader(), 1)])
    assert not torch.equal(other, second)


def test_sequences_grow():
    loader = made(start_length=5, growing_epochs=4).train_dataloader()
    lengths = [{x.shape[1] for x, _ in epoch_of(loader, epoch)} for epoch in range(6)]
    assert lengths == [{5}, {9}, {13}, {17}, {21}, {21}]


def test_queries(tmp_path):
    data, file = made(), tmp_path / "in.txt"
    file.write_text("0.1 0.5* 0.3 0.2*\n1* 1*\n")
    queries = data.read_queries(file)
    (first,), (second,) = data.query_batches(queries)
    assert torch.equal(first, torch.tensor([[[0.1, 0], [0.5, 1], [0.3, 0], [0.2, 1]]])) and second.shape == (1, 2, 2)
    assert data.write_answers(queries, [torch.tensor([[0.7]]), torch.tensor([[2.0]])]) == "0.7000\n2.0000\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1 0.5* 0.3\n", "in.txt:1: expected numbers, two of them with a star"),
        ("", "in.txt:1: expected numbers, two of them with a star"),
        ("0.1* 0.5*\n0.1* x*\n", "in.txt:2: expected a finite number, got 'x'"),
    ],
)
def test_bad_lines_are_refused(tmp_path, text, message):
    (tmp_path / "in.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        made().read_queries(tmp_path / "in.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 1}, "length must be an integer of at least 2, got 1"),
        ({"start_length": 30, "growing_epochs": 2}, "start_length must be an integer from 2 to 21, got 30"),
        ({"batch_size": 50}, "batch_size must be at most the size of the training part, 40, got 50"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)
