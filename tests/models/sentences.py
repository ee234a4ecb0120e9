"""Tagged sentences as batches, for the tests of the tagger and of its task."""

import torch

from rnnlab.data.sentences import IGNORED, TaggedBatch

SIZES = {"num_words": 12, "num_chars": 9, "num_tags": 4}


def spelling(word):
    """Return the characters of a word: of different words different ones, of 1 to 17 characters."""
    length = 1 + word * 5 % 19
    return [2 + (word + step * step) % 7 for step in range(length)]


def batch_of(sentences, tags=None, unseen=(), width=None):
    """Return sentences, lists of words 0 to 9, as a batch.

    Args:
        sentences: word n has the number n + 2 and the characters `spelling(n)`.
        tags: a list for each sentence, None for a token without one; by default word n has the tag n % 4.
        unseen: words whose form is not in train, read as unknown.
        width: columns of `chars`; by default as many as needed.
    """
    if tags is None:
        tags = [[word % SIZES["num_tags"] for word in sentence] for sentence in sentences]
    forms = sorted({word for sentence in sentences for word in sentence}, reverse=True)
    char_lengths = [len(spelling(form)) for form in forms]
    chars = torch.zeros(len(forms), width or max(char_lengths), dtype=torch.int64)
    for row, form in enumerate(forms):
        chars[row, : char_lengths[row]] = torch.tensor(spelling(form))
    lengths = torch.tensor([len(sentence) for sentence in sentences])

    def padded(rows, value):
        return torch.tensor([[*row, *[value] * (int(lengths.max()) - len(row))] for row in rows])

    return TaggedBatch(
        words=padded([[1 if word in unseen else word + 2 for word in sentence] for sentence in sentences], 0),
        forms=padded([[forms.index(word) for word in sentence] for sentence in sentences], 0),
        chars=chars,
        char_lengths=torch.tensor(char_lengths),
        lengths=lengths,
        unseen=padded([[word in unseen for word in sentence] for sentence in sentences], False),
        tags=padded([[IGNORED if tag is None else tag for tag in row] for row in tags], IGNORED),
    )
