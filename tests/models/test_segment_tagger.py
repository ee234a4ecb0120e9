"""A segment by itself, or among others."""

from functools import partial

import pytest
import torch

import rnnlab.nn
from rnnlab.data import SegmentBatch
from rnnlab.models import SegmentTagger


def batch_of(segments, lengths):
    tags = torch.zeros(segments.shape[1], segments.shape[0], dtype=torch.int64)
    return SegmentBatch(segments, torch.tensor(lengths), tags > 0, tags)


def make(**arguments):
    torch.manual_seed(0)
    rnn = partial(rnnlab.nn.LSTM, hidden_size=5, bidirectional=True)
    return SegmentTagger(rnn, num_features=6, num_tags=4, projection=7, **arguments).eval()


@pytest.mark.parametrize("options", [{}, {"depth": 3, "skip": True}])
@pytest.mark.parametrize("context", [True, False])
def test_only_context_reads_the_neighbours(context, options):
    model, segments = make(context=context, **options), torch.randn(3, 2, 6)
    scores = model(batch_of(segments, [3, 2]))
    assert scores.shape == (2, 3, 4)
    changed = segments.clone()
    changed[0] += 1
    others = model(batch_of(changed, [3, 2]))
    assert torch.equal(others[:, 1:], scores[:, 1:]) != context and not torch.equal(others[:, 0], scores[:, 0])
    changed = segments.clone()
    changed[2, 1] = 9.0  # padding
    torch.testing.assert_close(model(batch_of(changed, [3, 2]))[1, :2], scores[1, :2])
    assert torch.equal(model.decode(batch_of(segments, [3, 2])), scores.argmax(-1))


def test_both_have_the_same_parameters():
    shapes = [
        {name: value.shape for name, value in make(context=context).state_dict().items()} for context in (True, False)
    ]
    assert shapes[0] == shapes[1]


def test_the_read_out_sees_the_segment_beside_the_recurrent_layers():
    model, segments = make(depth=2, skip=True), torch.randn(3, 2, 6)
    x = segments
    for layer in (model.projection, *model.deeper):
        x = layer(x).relu()
    output = model.rnn(x, lengths=torch.tensor([3, 2]))[0]
    torch.testing.assert_close(
        model(batch_of(segments, [3, 2])), model.head(torch.cat([output, x], dim=-1)).transpose(0, 1)
    )
    assert len(model.deeper) == 1 and model.head.in_features == 10 + 7
    assert make().head.in_features == 10 and not make().deeper


def test_without_projection_segments_are_read_as_they_are():
    rnn = partial(rnnlab.nn.GRU, hidden_size=5)
    model, segments = SegmentTagger(rnn, 6, 4, projection=None, dropout=0.0), torch.randn(3, 2, 6)
    expected = model.head(model.rnn(segments)[0]).transpose(0, 1)
    torch.testing.assert_close(model(batch_of(segments, [3, 3])), expected)
    torch.testing.assert_close(model(batch_of(segments, [3, 2]))[:, :2], expected[:, :2])
    with pytest.raises(ValueError, match=r"model.depth=2 are linear layers of model.projection units, which is null"):
        SegmentTagger(rnn, 6, 4, projection=None, depth=2)


@pytest.mark.parametrize("name", ["projection", "depth"])
def test_sizes_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"model.{name} must be an integer of at least 1, got 0"):
        SegmentTagger(partial(rnnlab.nn.LSTM, hidden_size=5), 6, 4, **{name: 0})
