"""The task of delineators: what frames should tell, what is counted, and that it learns."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.data import ECGData
from rnnlab.decoding.beats import BeatFinder
from rnnlab.models import Delineator
from rnnlab.tasks import DelineationTask
from rnnlab.tasks.delineation import targets
from rnnlab.tasks.means import sum_of_means
from tests.tasks.helpers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

STEP, NAN = 0.016, float("nan")


def points_of(times, duration=0.08):
    """Return points of beats at these seconds, (K, 5)."""
    r = torch.tensor(times, dtype=torch.float64)
    return torch.stack([r, r - 0.02, r + 0.03, r - 0.04, r - 0.04 + duration], dim=1)


def test_what_frames_should_tell_is_read_back_as_it_was():
    points = torch.stack([points_of([0.1, 0.5111, 1.2]), points_of([0.3, 1.555, NAN])])
    share, distance, is_near, is_known = targets(points, ~points[..., 0].isnan(), 100, STEP)
    assert share.sum(0).tolist() == pytest.approx([3, 2]) and is_known.all()
    assert is_near.sum(0).tolist() == [12, 8] and ((share > 0) <= is_near).all()
    logits = share.double().clamp(1e-6, 1 - 1e-6).logit()
    scores = torch.cat([logits.unsqueeze(-1), distance.double()], dim=-1)
    for row, count in ((0, 3), (1, 2)):
        found = BeatFinder(STEP)(scores[:, row].numpy())
        np.testing.assert_allclose(found, points[row, :count], atol=1e-6)


def test_beats_that_are_not_scored_or_outside_teach_nothing():
    points = points_of([-0.3, 0.0, 0.8, 1.59, 5.0])[None]
    is_scored = torch.tensor([[False, True, False, True, False]])
    share, _, is_near, is_known = targets(points, is_scored, 100, STEP)
    assert (~is_known[:, 0]).nonzero()[:, 0].tolist() == [48, 49, 50, 51]  # around 0.8 / 0.016 - 0.5
    assert not share[48:52].any() and not (is_near & ~is_known).any()
    assert share[0] == 0.5 and share[98:].sum() > 0.8


class Says(nn.Module):
    """Says beats, whatever it reads."""

    stack, frame_seconds, num_points = 4, STEP, 5

    def __init__(self, points):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        share, distance, *_ = targets(points, ~points[..., 0].isnan(), 125, STEP)
        self.scores = torch.cat([share.clamp(1e-5, 1 - 1e-5).logit().unsqueeze(-1), distance], dim=-1)

    def forward(self, signal):
        return self.scores + 0 * self.unused


def measured(found, true, is_scored=None, **options):
    true = true[None]
    task = DelineationTask(Says(found[None]), torch.optim.Adam, **options)
    is_scored = ~true[..., 0].isnan() if is_scored is None else torch.tensor([is_scored])
    with torch.inference_mode():
        task.measure((torch.zeros(1, 500), true, is_scored), "test")
    return {name: float(value) for name, value in task.report("test").items()}


def test_all_found_where_they_are():
    values = measured(points_of([0.5, 1.0, 1.5]), points_of([0.5, 1.0, 1.5]))
    assert values["r_sensitivity"] == values["r_precision"] == 1
    assert max(values[f"{name}_error_ms"] for name in ("r", "q", "s", "qrs")) < 0.01
    assert "wide_sensitivity" not in values and "wide_precision" not in values


def test_errors_are_those_of_found_beats():
    found = points_of([0.504, 1.002, 1.7])
    found[:, 2] += 0.01
    found[0, 4] += 0.006
    values = measured(found, points_of([0.5, 1.0, 1.5, 2.0]))
    assert values["r_sensitivity"] == 0.5 and values["r_precision"] == pytest.approx(2 / 3)
    assert values["r_error_ms"] == pytest.approx(3, abs=0.01) and values["q_error_ms"] == pytest.approx(3, abs=0.01)
    assert values["s_error_ms"] == pytest.approx(13, abs=0.01) and values["qrs_error_ms"] == pytest.approx(3, abs=0.01)


def test_fifty_milliseconds_are_the_border():
    assert measured(points_of([1.049]), points_of([1.0]))["r_sensitivity"] == 1
    values = measured(points_of([1.051]), points_of([1.0]))
    assert values["r_sensitivity"] == values["r_precision"] == 0 and "r_error_ms" not in values


def test_beats_in_gaps_count_neither_way():
    values = measured(points_of([0.5, 1.0]), points_of([0.5, 1.0, 1.5]), [True, False, False])
    assert values["r_sensitivity"] == values["r_precision"] == 1
    values = measured(points_of([0.5, 1.25]), points_of([0.5, 1.0, 1.5]), [True, False, False])
    assert values["r_sensitivity"] == 1 and values["r_precision"] == 0.5  # in a gap, and no beat at all
    values = measured(points_of([0.5, 1.0, 1.25], 0.12), points_of([0.5, 1.0, 1.5], 0.12), [True, False, False])
    assert values["r_precision"] == values["wide_precision"] == 0.5  # the one at 1.0 is not a right one either
    values = measured(points_of([0.5], 0.12), points_of([0.5, 1.0], 0.12), [True, False])
    assert values["r_sensitivity"] == values["wide_sensitivity"] == 1


def test_wide_is_what_lasts_longer_than_the_limit():
    true = torch.cat([points_of([0.3, 0.8], 0.13), points_of([1.2, 1.7], 0.09)])
    found = torch.cat([points_of([0.3], 0.12), points_of([0.8, 1.2], 0.09), points_of([1.7], 0.101)])
    values = measured(found, true)
    assert values["wide_sensitivity"] == values["wide_precision"] == 0.5
    assert values["r_sensitivity"] == 1
    values = measured(found, true, limit_ms=110)
    assert values["wide_sensitivity"] == 0.5 and values["wide_precision"] == 1
    values = measured(points_of([0.3, 1.0], 0.12), points_of([0.3], 0.13))
    assert values["wide_sensitivity"] == 1 and values["wide_precision"] == 0.5  # a false beat is falsely wide, too


def loss_of(task, scores, points, is_scored):
    return sum_of_means(task._terms(scores, points, is_scored))


def test_the_loss_of_a_part_is_the_mean_over_its_beats():
    task = DelineationTask(Says(points_of([0.5])[None]), torch.optim.Adam)
    losses = []
    with torch.inference_mode():
        for count, time in ((1, 0.5), (3, 0.58)):
            points = points_of([time])[None].expand(count, -1, -1)
            task.model.scores = task.model.scores[:, :1].expand(-1, count, -1)
            batch = torch.zeros(count, 500), points, torch.ones(count, 1, dtype=torch.bool)
            losses.append(float(loss_of(task, task.model(batch[0]), *batch[1:])))
            task.measure(batch, "val")
    assert float(task.report("val")["loss"]) == pytest.approx((losses[0] + 3 * losses[1]) / 4)
    assert losses[1] > 2 * losses[0]


def test_a_model_that_diverged_is_not_scored():
    found = points_of([0.5])
    task = DelineationTask(Says(found[None]), torch.optim.Adam)
    task.model.scores = task.model.scores * torch.nan
    with torch.inference_mode():
        task.measure((torch.zeros(1, 500), found[None], torch.ones(1, 1, dtype=torch.bool)), "val")
    values = task.report("val")
    assert values.keys() == {"loss"} and values["loss"].isnan()


def tiny(**options):
    return ECGData(num_train=8, num_val=2, num_test=2, seconds=4, batch_size=8, gaps=0.0, max_level=0.5, **options)


@pytest.mark.parametrize("rnn", [functools.partial(rnnlab.nn.LSTM, hidden_size=16, bidirectional=True), None])
def test_one_batch_is_learnt_by_heart(tmp_path, rnn):
    torch.manual_seed(0)
    data = tiny()
    data.setup()
    data.splits["test"] = data.splits["train"]
    model = Delineator(rnn, **data.sizes, width=32)
    task = DelineationTask(model, functools.partial(torch.optim.Adam, lr=5e-3))
    quiet_trainer(tmp_path, max_epochs=150, gradient_clip_val=1.0).fit(task, datamodule=data)
    (values,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert values["test/r_sensitivity"] > 0.97 and values["test/r_precision"] > 0.97, values
    assert values["test/r_error_ms"] < 5 and values["test/qrs_error_ms"] < 15, values


def test_the_gradient_is_that_of_the_loss_in_padding_too():
    """Beats of a record beyond those of others do not touch the loss of those."""
    scores, points = torch.randn(125, 2, 6), torch.stack([points_of([0.5, NAN]), points_of([0.7, 1.3])])
    task = DelineationTask(Says(points), torch.optim.Adam)
    alone = loss_of(task, scores[:, :1], points[:1, :1], torch.ones(1, 1, dtype=torch.bool))
    padded = loss_of(task, scores[:, :1], points[:1], torch.tensor([[True, False]]))
    torch.testing.assert_close(alone, padded)


def test_the_loss_is_of_what_is_known_and_counts_a_distance_twice():
    points, is_scored = points_of([0.5, 0.8, 0.83])[None], torch.tensor([[True, False, True]])
    share, distance, is_near, is_known = targets(points, is_scored, 100, STEP)
    task = DelineationTask(Says(points), torch.optim.Adam)

    def loss(off):
        scores = torch.cat([share.clamp(1e-6, 1 - 1e-6).logit().unsqueeze(-1), distance + off], dim=-1)
        return loss_of(task, scores.requires_grad_(), points, is_scored), scores

    (off, scores), (right, _) = loss(1.0), loss(0.0)
    assert (off - right).item() == pytest.approx(2.0)
    (gradient,) = torch.autograd.grad(off, scores)
    assert not gradient[~is_known].any() and (~is_known).any()
    assert gradient[is_near][:, 1:].all() and not gradient[~is_near][:, 1:].any()


def test_a_beat_is_known_after_the_stated_delay():
    """The answer of a beat that is told by frames, sample by sample."""
    torch.manual_seed(0)
    rnn = functools.partial(rnnlab.nn.LSTM, hidden_size=4, backend="eager")
    task = DelineationTask(Delineator(rnn, delay_ms=160).eval(), torch.optim.Adam, threshold=1e-3).eval()
    assert task.delay == pytest.approx((12 + 2 + 2) * STEP + 0.16 + 8 / 250)
    with torch.no_grad():
        task.model.head.weight[1:].zero_()
        task.model.head.bias[1:].zero_()  # R in the middle of its frame
        task.model.head.weight[0] *= 100
    read = []

    def pieces():
        for sample in torch.randn(2_000):
            read.append(sample)
            yield sample[None]

    with torch.inference_mode():
        scores = (part.numpy() for part in task.model.stream(pieces()))
        late = [
            len(read) / 250 - beats[0, 0] for beats in task.finder.stream(scores) if len(beats) and len(read) < 2_000
        ]
    assert len(late) > 3 and task.delay - 4 * STEP < max(late) <= task.delay, late
    assert DelineationTask(Delineator(None), torch.optim.Adam).delay == float("inf")


def test_models_that_do_not_fit_are_refused():
    data = tiny()
    data.setup()
    task = DelineationTask(Delineator(None, num_points=4), torch.optim.Adam)
    with pytest.raises(ValueError, match=r"the model's scores are \(250, 2, 5\), and \(250, 2, 6\) are needed"):
        task.check(data.rehearsal_batch())
    with pytest.raises(ValueError, match="task.limit_ms must be a finite number"):
        DelineationTask(Delineator(None), torch.optim.Adam, limit_ms=-1)
