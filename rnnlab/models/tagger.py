"""A recurrent network that gives each token of a sentence a tag.

B batch, T time, K tags, W distinct words of a batch, C characters, E size of a word embedding, F features of a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from rnnlab.decoding.symbols import PADDING, UNKNOWN
from rnnlab.models.crf import LinearChainCRF
from rnnlab.models.layers import LockedDropout, RecurrentFactory, embedding_table, initialise_all, output_width
from rnnlab.nn import LSTM

# Words are read in groups of these lengths: 1 to 4 characters, 5 to 8, and so on. See `CharLSTM`.
_GROUPS = (4, 8, 16)


class Tagger(nn.Module):
    """Word and its characters -> recurrent layers -> linear read-out at every token, with a CRF on top if asked for.

    The tagger of Plank et al. (2016) and Ma and Hovy (2016). A batch is anything with the fields of
    `rnnlab.data.TaggedBatch`, of which the model reads words (B, T), forms (B, T), chars (W, C), char_lengths (W,) and
    lengths (B,): the characters of each distinct word are read once.

    Args:
        rnn: factory of recurrent layers, called with `input_size`; its layers take `lengths`.
        num_words: words of the vocabulary, 0 being padding and 1 the unknown word.
        num_chars: characters of the vocabulary, likewise.
        num_tags: K.
        vectors: word vectors (num_words, E) that the embedding starts from; like all of it, they are trained.
        word_size: E, where there are no vectors.
        char_size: size of a character embedding.
        char_hidden: units of the character encoder, in each direction.
        char_encoder: "lstm", "cnn", or "none" for words alone.
        word_dropout: rate at which words are read as unknown in training. Their characters stay.
        dropout: rate of dropout before and after the recurrent layers, with one mask for all words of a sentence.
        crf: score sequences of tags (`LinearChainCRF`), not each token alone.
        init: arguments of `rnnlab.nn.init.initialise` for all recurrent layers; None keeps torch's initialisation.

    Raises:
        ValueError: another `char_encoder`, a rate outside [0, 1), vectors of another number of words.

    Attributes:
        num_tags: K.
        crf: the CRF, or None.
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        num_words: int,
        num_chars: int,
        num_tags: int,
        vectors: Tensor | None = None,
        word_size: int = 100,
        char_size: int = 32,
        char_hidden: int = 64,
        char_encoder: str = "lstm",
        word_dropout: float = 0.25,
        dropout: float = 0.5,
        crf: bool = False,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if char_encoder not in ("lstm", "cnn", "none"):
            raise ValueError(f"model.char_encoder must be lstm, cnn or none, got {char_encoder!r}")
        if not 0 <= word_dropout < 1:
            raise ValueError(f"model.word_dropout must lie in [0, 1), got {word_dropout!r}")
        self.num_tags, self.word_dropout = num_tags, word_dropout
        self.dropout = LockedDropout(dropout)
        self.words = embedding_table(num_words, word_size, vectors)
        self.characters: CharLSTM | CharCNN | None = None
        if char_encoder != "none":
            encoder = CharLSTM if char_encoder == "lstm" else CharCNN
            self.characters = encoder(num_chars, char_size, char_hidden)
        char_width = 0 if self.characters is None else self.characters.width
        self.rnn = rnn(input_size=self.words.embedding_dim + char_width)
        self.head = nn.Linear(output_width(self.rnn), num_tags)
        self.crf = LinearChainCRF(num_tags) if crf else None
        recurrent = [self.rnn] if self.characters is None else [self.characters, self.rnn]
        initialise_all(recurrent, self.head, init)

    def forward(self, batch: Any) -> Tensor:
        """Return the score of each tag at each token, (B, T, K); what stands in padding is of no meaning."""
        # Time-major from here: numbers are cheaper to transpose than what follows from them.
        words, forms = batch.words.t(), batch.forms.t()
        if self.training and self.word_dropout:
            dropped = torch.rand(words.shape, device=words.device) < self.word_dropout
            words = words.masked_fill(dropped & (words != PADDING), UNKNOWN)
        x = self.words(words)  # (T, B, E)
        if self.characters is not None:
            spelt = self.characters(batch.chars, batch.char_lengths)  # (W, F)
            x = torch.cat([x, embedding(forms, spelt)], dim=-1)
        output = self.rnn(self.dropout(x), lengths=batch.lengths)[0]  # (T, B, H)
        return self.head(self.dropout(output)).transpose(0, 1)

    def decode(self, batch: Any) -> Tensor:
        """Return the best tags, int64 (B, T); what stands in padding is of no meaning."""
        return self.best_tags(self(batch), batch.lengths)

    def best_tags(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return the tags that emissions (B, T, K) speak for: of each token alone or, with a CRF, of the sentence."""
        return emissions.argmax(dim=-1) if self.crf is None else self.crf.decode(emissions, lengths)


class CharLSTM(nn.Module):
    """Words by their characters: what an LSTM says at the last one and another, reading backwards, at the first.

    Ling et al. (2015). The two are plain layers on rows that start at their first character: where only the ends are
    looked at, what a layer reads beyond them does not matter, and no layer with lengths is as fast on a CPU. Nor is it
    worth running all rows as far as the longest one, so words are read in groups of like lengths.

    Args:
        num_chars: characters of the vocabulary, 0 being padding.
        char_size: size of a character embedding.
        char_hidden: units of each direction.
    """

    def __init__(self, num_chars: int, char_size: int, char_hidden: int) -> None:
        super().__init__()
        self.embedding = embedding_table(num_chars, char_size)
        self.onwards, self.backwards = LSTM(char_size, char_hidden), LSTM(char_size, char_hidden)
        self.width = 2 * char_hidden

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """Return features (W, F) of words, from their characters (W, C) and lengths (W,)."""
        if torch.compiler.is_exporting():  # where lengths have no values, and rows no groups
            return self._read(chars, lengths)
        group = torch.bucketize(lengths, torch.tensor(_GROUPS, device=lengths.device))
        rows = [(group == k).nonzero().squeeze(1) for k in range(len(_GROUPS) + 1)]
        read = [self._read(chars[some], lengths[some]) for some in rows if len(some)]
        return torch.cat(read)[torch.cat(rows).argsort()]

    def _read(self, chars: Tensor, lengths: Tensor) -> Tensor:
        last = lengths - 1
        if not torch.compiler.is_exporting():
            chars = chars[:, : int(lengths.max())]
        steps = torch.arange(chars.shape[1], device=chars.device)
        mirrored = chars.gather(1, (last.unsqueeze(1) - steps).clamp(min=0))  # beyond the end, whatever
        rows = torch.arange(chars.shape[0], device=chars.device)
        ends = [
            layer(self.embedding(ids.t()))[0][last, rows]
            for layer, ids in ((self.onwards, chars), (self.backwards, mirrored))
        ]
        return torch.cat(ends, dim=1)


class CharCNN(nn.Module):
    """Words by their characters: the highest value of each filter over three of them (dos Santos and Zadrozny, 2014).

    Args:
        num_chars: characters of the vocabulary, 0 being padding.
        char_size: size of a character embedding.
        char_hidden: number of filters.
    """

    def __init__(self, num_chars: int, char_size: int, char_hidden: int) -> None:
        super().__init__()
        self.embedding = embedding_table(num_chars, char_size)
        self.convolution = nn.Conv1d(char_size, char_hidden, kernel_size=3, padding=1)
        self.width = char_hidden

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """Return features (W, F) of words, from their characters (W, C) and lengths (W,)."""
        answers = self.convolution(self.embedding(chars).transpose(1, 2))  # (W, F, C)
        beyond = torch.arange(chars.shape[1], device=chars.device) >= lengths.unsqueeze(1)
        return answers.masked_fill(beyond.unsqueeze(1), -torch.inf).amax(dim=2)
