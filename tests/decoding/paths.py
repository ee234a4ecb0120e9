"""All alignments of few frames, one by one."""

import itertools
import math
from collections import defaultdict

import torch


def spelled(path):
    """Return the text of an alignment: repeats merged, blanks dropped."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def text_probabilities(probs):
    """Return the probability of every text that T frames can spell, by probabilities (T, V)."""
    result = defaultdict(float)
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        result[spelled(path)] += math.prod(frame[k] for frame, k in zip(probs.tolist(), path, strict=True))
    return result


def best_alignment(log_probs, text):
    """Return the likeliest path through log_probs (T, V) that spells a text; of equals the furthest from the end on."""
    frames = log_probs.tolist()
    paths = [
        (sum(frame[k] for frame, k in zip(frames, path, strict=True)), _places(path)[::-1], path)
        for path in itertools.product(range(log_probs.shape[1]), repeat=len(frames))
        if spelled(path) == tuple(text)
    ]
    return list(max(paths)[2])


def _places(path):
    """Return where in its text with blanks around each symbol a path is."""
    places, place = [], 0
    for before, symbol in itertools.pairwise((0, *path)):
        if symbol and symbol != before:
            place += 1 + place % 2
        elif not symbol:
            place += place % 2
        places.append(place)
    return places


def batch_of(texts):
    """Return targets (B, U) and their lengths (B,)."""
    lengths = torch.tensor([len(text) for text in texts])
    targets = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    for row, text in enumerate(texts):
        targets[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
    return targets, lengths


def random_logits(num_frames, batch, num_classes, seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(num_frames, batch, num_classes, generator=generator, dtype=torch.float64)
