"""The task of listeners: targets end, it learns, rates are those of CTC, and what is refused."""

import functools

import pytest
import torch

import rnnlab.nn
from rnnlab.data.sound_rows import LongSound
from rnnlab.decoding.symbols import END, PADDING
from rnnlab.models import Listener
from rnnlab.models.listener import SHIFT
from rnnlab.tasks import ListenTask
from rnnlab.tasks.listen import listening
from tests.tasks.helpers import quiet_trainer
from tests.tasks.sounds import TinySounds, rows_of

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory


def task_of(data, **options):
    torch.manual_seed(0)
    rnn = functools.partial(rnnlab.nn.GRU, hidden_size=16, bidirectional=True, backend="eager")
    model = Listener(rnn, **data.sizes, embedding_size=12)
    return ListenTask(model, functools.partial(torch.optim.Adam, lr=1e-2), **options)


def test_targets_end_and_are_padded():
    heard = listening(rows_of([[1, 3], [2], [3, 3, 1]])[[0, 1, 2]])
    expected = [[1, 3, None], [2, None], [3, 3, 1, None]]
    rows = [[END if number is None else number + SHIFT for number in row] for row in expected]
    assert heard.target.tolist() == [row + [PADDING] * (4 - len(row)) for row in rows]
    assert heard.source.shape == (3, 11, 3) and heard.source_lengths.tolist() == [8, 5, 11]


def test_it_learns_and_is_measured_as_ctc_is(tmp_path):
    data = TinySounds(error_names=("cer", "ler"))
    data.setup()
    task = task_of(data, max_length=6)
    trainer = quiet_trainer(tmp_path, max_epochs=60)
    trainer.fit(task, datamodule=data)
    (values,) = trainer.test(task, datamodule=data, verbose=False)
    assert values.keys() == {"test/loss", "test/cer", "test/ler"}
    assert values["test/cer"] == values["test/ler"] < 0.2, values
    answers = [best[0].ids for best in task.eval().predict_step(data.splits["test"][[0, 1]])]
    assert all(0 < number < 4 for ids in answers for number in ids)
    (recording,) = data.splits["test"].recordings[:1]
    long = LongSound("a.wav", len(recording.features), lambda: iter(recording.features.split(2)))
    assert [best[0].ids for best in task.predict_step(long)] == answers[:1]
    assert [len(best) for best in task.answers(data.splits["test"][[0, 1]], beam=3, n_best=2)] == [2, 2]


def test_a_model_that_diverged_has_no_rates(tmp_path):
    data = TinySounds()
    data.setup()
    task = task_of(data)
    torch.nn.init.constant_(task.model.head.bias, torch.nan)
    (values,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert values["test/cer"] != values["test/cer"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "task.beam must be an integer of at least 1, got 0"),
        ({"n_best": 5}, "task.n_best must be at most task.beam, got 5 and 4"),
        ({"max_length": 0}, "task.max_length must be an integer of at least 1, got 0"),
        ({"label_smoothing": 2}, "task.label_smoothing must be a number from 0 to 1, got 2"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        task_of(TinySounds(), **options)
