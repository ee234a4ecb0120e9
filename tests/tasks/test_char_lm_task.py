"""Character language models: exact sums, carried states, one text learnt by heart, dynamic evaluation."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

import rnnlab.nn
from rnnlab.data import LabelledTextData, TextData
from rnnlab.decoding import sample
from rnnlab.models import CharLM
from rnnlab.tasks import CharLMTask
from rnnlab.tasks.carry import read_window
from rnnlab.tasks.dynamic import evaluate_dynamically
from tests.tasks.helpers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = partial(torch.optim.Adam, lr=1e-2)
TEXT = "the cat sat on the mat, the dog sat on the log; " * 12 + "and then they all went home together.\n" * 5


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def make(text_file, rnn=rnnlab.nn.LSTM, units=16, **arguments):
    data = TextData(text_file, **{"batch_size": 3, "tbptt_steps": 7, **arguments})
    data.setup()
    return data, CharLM(partial(rnn, hidden_size=units), **data.sizes)


@pytest.mark.parametrize("rnn", [rnnlab.nn.LSTM, rnnlab.nn.GRU])
@pytest.mark.parametrize("split", ["90/5/5", "files"])
def test_loss_is_that_of_one_forward_pass_over_each_document(tmp_path, rnn, split):
    for index in range(20):
        (tmp_path / f"{index:02}.txt").write_text(TEXT[index : 150 + 13 * index])
    data, model = make(str(tmp_path / "*.txt"), rnn, split=split)
    task = CharLMTask(model, ADAM)
    trainer = quiet_trainer(tmp_path)
    parts = ["val", "test"] if split == "90/5/5" else ["val"]
    for part in parts:
        (logged,) = (trainer.validate if part == "val" else trainer.test)(task, datamodule=data, verbose=False)
        total, count = 0.0, 0
        for text, context in data.documents[part]:
            ids = torch.tensor([data.vocabulary.encode(context + text)])
            logits = model(torch.cat([torch.ones_like(ids[:, :1]), ids[:, :-1]], dim=1))[0, len(context) :]
            total += cross_entropy(logits, ids[0, len(context) :], reduction="sum").item()
            count += len(text)
        assert logged[f"{part}/loss"] == pytest.approx(total / count, rel=1e-5)
        assert logged[f"{part}/bits"] == pytest.approx(total / count / math.log(2), rel=1e-5)
        assert logged[f"{part}/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
        assert logged.keys() == {f"{part}/loss", f"{part}/bits", f"{part}/perplexity"}


def test_a_short_text_is_learnt_by_heart(tmp_path, text_file):
    data, model = make(text_file, units=64, batch_size=4, tbptt_steps=25)
    task = CharLMTask(model, ADAM)
    quiet_trainer(tmp_path, max_epochs=25).fit(task, datamodule=data)
    nats, carry = [], None
    for window in data.train_dataloader():
        logits, carry = model(window.inputs, carry, return_state=True)
        nats.append(cross_entropy(logits.flatten(0, 1), window.targets.flatten(), reduction="none"))
    assert torch.cat(nats).mean() < 0.15


def test_training_carries_the_state_and_validation_leaves_it_alone(tmp_path, text_file):
    data, model = make(text_file)
    task = CharLMTask(model, partial(torch.optim.SGD, lr=0.0))
    windows = list(data.train_dataloader())
    logits = []
    for index, window in enumerate(windows):
        logits.append(read_window(model, window, task.carry))
        if index == 2:
            quiet_trainer(tmp_path).validate(task, datamodule=data, verbose=False)
    whole = model(torch.cat([window.inputs for window in windows], dim=1))
    torch.testing.assert_close(torch.cat(logits, dim=1), whole)


def test_a_reset_inside_a_window_reaches_the_layer(tmp_path):
    for index in range(10):
        (tmp_path / f"{index}.txt").write_text(TEXT[: 40 + index])
    data, model = make(str(tmp_path / "*.txt"), split="files", batch_size=2, tbptt_steps=30)
    task = CharLMTask(model, ADAM)
    windows = list(data.train_dataloader())
    logits = torch.cat([read_window(model, window, task.carry) for window in windows], dim=1)
    inputs, reset = (torch.cat(parts, dim=1) for parts in zip(*((w.inputs, w.reset) for w in windows), strict=True))
    begins = [*reset[0].nonzero()[:, 0].tolist(), inputs.shape[1]]
    for begin, end in zip(begins[:-1], begins[1:], strict=True):
        torch.testing.assert_close(logits[:1, begin:end], model(inputs[:1, begin:end]))


def test_check_names_both_shapes(text_file):
    data, model = make(text_file)
    task = CharLMTask(model, ADAM)
    task.check(data.rehearsal_batch())
    model.forward = lambda ids, state, **options: (torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match=r"the model's logits are .* and the characters \(2, 8\)"):
        task.check(data.rehearsal_batch())


def test_dynamic_evaluation_learns_what_training_did_not_show(tmp_path, text_file):
    (tmp_path / "val.txt").write_text("mmm ttt " * 100)
    data, model = make(text_file, val=tmp_path / "val.txt")
    quiet_trainer(tmp_path, max_epochs=2).fit(CharLMTask(model, ADAM), datamodule=data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = CharLMTask(model, ADAM, dynamic_lr=1e-3)
    (logged,) = quiet_trainer(tmp_path).validate(task, datamodule=data, verbose=False)
    assert logged["val/bits_dynamic"] < logged["val/bits"] - 0.5
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_dynamic_evaluation_is_its_equation(text_file):
    data, model = make(text_file)
    lr, decay = 1e-2, 0.05
    reference = make(text_file)[1].double()
    reference.load_state_dict(model.state_dict())
    found = evaluate_dynamically(model.double(), data.windows("val", 11), data.windows("train", 7), lr, decay)

    def nats(window, state):
        logits, state = reference(window.inputs, state, return_state=True)
        keep = window.targets >= 0
        return cross_entropy(logits[keep], window.targets[keep], reduction="none"), tuple(s.detach() for s in state)

    weights, squares, state = list(reference.parameters()), None, None
    windows = list(data.windows("train", 7))
    for window in windows:
        losses, state = nats(window, state)
        gradients = torch.autograd.grad(losses.mean(), weights)
        squares = [g**2 + s for g, s in zip(gradients, squares or [0] * len(gradients), strict=True)]
    scales = [(square / len(windows)).sqrt() for square in squares]
    mean = sum(float(scale.sum()) for scale in scales) / sum(scale.numel() for scale in scales)
    start = [weight.detach().clone() for weight in weights]
    total, count, state = 0.0, 0, None
    for window in data.windows("val", 11):
        losses, state = nats(window, state)
        if not len(losses):
            continue
        total, count = total + losses.sum().item(), count + len(losses)
        gradients = torch.autograd.grad(losses.mean(), weights)
        with torch.no_grad():
            for weight, g, s, w0 in zip(weights, gradients, scales, start, strict=True):
                weight.copy_(weight - lr * g / (s + 1e-5) + (decay * s / mean).clamp(max=1) * (w0 - weight))
    assert found == pytest.approx(total / count, rel=1e-7)  # losses are in single precision


@pytest.mark.parametrize(("lr", "decay"), [(0.0, 0.0), (-1.0, 0.0), (0.1, 1.5)])
def test_dynamic_rates_are_checked(text_file, lr, decay):
    data, model = make(text_file)
    with pytest.raises(ValueError, match="task.dynamic_lr must be > 0"):
        evaluate_dynamically(model, data.windows("val", 11), data.windows("train", 7), lr, decay)


def make_labelled(labelled_file, condition, units=16, **arguments):
    data = LabelledTextData(labelled_file, **{"batch_size": 4, "tbptt_steps": 7, **arguments})
    data.setup()
    return data, CharLM(partial(rnnlab.nn.LSTM, hidden_size=units), **data.sizes, condition=condition)


@pytest.mark.parametrize("condition", [None, "initial", "each_step"])
def test_bits_by_label_are_those_of_one_forward_pass_over_each_text(tmp_path, labelled_file, condition):
    data, model = make_labelled(labelled_file, condition)
    (logged,) = quiet_trainer(tmp_path).test(CharLMTask(model, ADAM), datamodule=data, verbose=False)
    nats = {label: [] for label in data.labels}
    for text, _, label in data.documents["test"]:
        ids = torch.tensor([data.vocabulary.encode(text)])
        before = torch.cat([torch.ones_like(ids[:, :1]), ids[:, :-1]], dim=1)
        logits = model(before, labels=torch.full_like(ids, label))[0]
        nats[data.labels[label]].append(cross_entropy(logits, ids[0], reduction="none"))
    means = {f"bits/{label}": torch.cat(found).mean().item() for label, found in nats.items()}
    means["bits"] = torch.cat(sum(nats.values(), [])).mean().item()
    for name, mean in means.items():
        assert logged[f"test/{name}"] == pytest.approx(mean / math.log(2), rel=1e-5)


@pytest.mark.parametrize("condition", ["initial", "each_step"])
def test_the_label_is_obeyed(tmp_path, labelled_file, condition):
    data, model = make_labelled(labelled_file, condition, units=32, tbptt_steps=12)
    quiet_trainer(tmp_path, max_epochs=12).fit(CharLMTask(model, ADAM), datamodule=data)
    for number, label in enumerate(data.labels):
        drawn = sample(model.of(torch.tensor([number])), [data.vocabulary.encode("3")] * 20, length=8)
        texts = ["".join(data.vocabulary.decode(ids)) for ids in torch.stack(list(drawn), dim=1).tolist()]
        assert sum(text.isupper() == (label == "loud") for text in texts) >= 19, texts


def test_labels_go_through_dynamic_evaluation(tmp_path, labelled_file):
    data, model = make_labelled(labelled_file, "initial")
    task = CharLMTask(model, ADAM, dynamic_lr=1e-3)
    (logged,) = quiet_trainer(tmp_path).validate(task, datamodule=data, verbose=False)
    assert logged["val/bits_dynamic"] < logged["val/bits"]


@pytest.mark.parametrize("condition", ["initial", "each_step"])
def test_the_likeliest_label_is_that_which_expects_the_text_best(tmp_path, labelled_file, condition):
    data, model = make_labelled(labelled_file, condition)
    task = CharLMTask(model.eval(), ADAM)
    (tmp_path / "in.txt").write_text("3 birds sang la\n4 B\n")
    queries = data.read_queries(tmp_path / "in.txt")
    (batch,) = data.query_batches(queries)
    found = task.predict_step(batch)
    for row, text in enumerate(("3 birds sang la\n", "4 B\n")):
        ids = torch.tensor([data.vocabulary.encode(text)])
        before = torch.cat([torch.ones_like(ids[:, :1]), ids[:, :-1]], dim=1)
        logits = [model(before, labels=torch.full_like(ids, label))[0] for label in range(2)]
        log_p = torch.stack([-cross_entropy(each.double(), ids[0], reduction="sum") for each in logits])
        torch.testing.assert_close(found[row], log_p.softmax(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"a model with model.condition=null knows no labels"):
        CharLMTask(make_labelled(labelled_file, None)[1], ADAM).predict_step(batch)
