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


@pytest.mark.parametrize("context", [True, False])
def test_only_context_reads_the_neighbours(context):
    model, segments = make(context=context), torch.randn(3, 2, 6)
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


def test_a_projection_of_no_units_is_refused():
    with pytest.raises(ValueError, match="model.projection must be an integer of at least 1, got 0"):
        SegmentTagger(partial(rnnlab.nn.LSTM, hidden_size=5), 6, 4, projection=0)
