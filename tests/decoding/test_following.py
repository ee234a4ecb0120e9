"""The alignment of a text with a sound that comes in parts: that of the whole, whatever is kept of it."""

from itertools import chain

import pytest
import torch

import rnnlab.decoding.following
from rnnlab.decoding import align, best_path, follow_text
from tests.decoding.paths import batch_of, random_logits


def followed(logits, ids, part=7, **options):
    """Return the class of each frame of logits (T, V), given in parts of so many frames."""
    return list(chain.from_iterable(follow_text(logits.split(part), len(logits), ids, **options)))


def aligned(logits, ids):
    found = align(logits.unsqueeze(1), torch.tensor([len(logits)]), *batch_of([ids]))
    return found[:, 0].tolist()


@pytest.mark.parametrize("part", [1, 7, 400])
@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_aligned_as_by_the_whole(seed, part):
    logits = random_logits(60, 1, 5, seed)[:, 0]
    generator = torch.Generator().manual_seed(seed)
    for size in (1, 5, 20, 30):
        ids = torch.randint(1, 5, (size,), generator=generator).tolist()
        if size + sum(a == b for a, b in zip(ids, ids[1:], strict=False)) <= 60:
            assert followed(logits, ids, part) == aligned(logits, ids)


def spoken(num_symbols, seed=0):
    """Return logits (T, V) of a network that is mostly sure of its text, and the text of their best path."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 6, (num_symbols,), generator=generator)
    classes = torch.stack([ids, *[torch.zeros_like(ids)] * 4], 1).flatten()
    logits = 1.5 * torch.randn(len(classes), 6, generator=generator, dtype=torch.float64)
    logits[torch.arange(len(classes)), classes] += 4
    return logits, best_path(logits.unsqueeze(1), torch.tensor([len(logits)]))[0].ids


def test_a_window_around_the_likeliest_place_is_enough():
    logits, ids = spoken(300)
    assert len(ids) > 250
    assert followed(logits, ids, part=100, width=32) == aligned(logits, ids)


def test_what_is_kept_does_not_grow_with_the_sound(monkeypatch):
    doubtful, settled = [], rnnlab.decoding.following._settled

    def watched(frames, places):
        found = settled(frames, places)
        doubtful.append(len(found[1]))
        return found

    monkeypatch.setattr(rnnlab.decoding.following, "_settled", watched)
    for size in (200, 800):
        doubtful.clear()
        logits, ids = spoken(size)
        followed(logits, ids, part=50, width=32)
        assert max(doubtful) < 200


def test_silence_and_impossible_classes():
    assert followed(torch.zeros(9, 3), []) == [0] * 9
    assert followed(torch.zeros(0, 3), []) == []
    logits = torch.full((6, 3), -torch.inf)
    logits[:, 0] = 0.0
    assert followed(logits, [1, 1, 2]) == aligned(logits, [1, 1, 2])


def test_the_end_is_reached_when_the_sound_favours_the_beginning():
    logits = torch.zeros(90, 3)
    logits[:, 0] = 9.0  # blanks all along, so that the text waits until it must go on
    ids = [1, 2] * 40
    found = followed(logits, ids, part=8, width=16)
    assert [symbol for symbol in found if symbol] == ids
    assert followed(logits, ids, part=8, width=400) == aligned(logits, ids)


@pytest.mark.parametrize(("frames", "ids"), [(0, [1]), (2, [1, 2, 1]), (2, [1, 1])])
def test_a_text_that_does_not_fit_is_refused(frames, ids):
    with pytest.raises(ValueError, match=f"a text of {len(ids)} symbols does not fit into {frames} frames"):
        followed(torch.zeros(frames, 3), ids)
