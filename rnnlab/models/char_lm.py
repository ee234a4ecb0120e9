"""A recurrent language model over characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from rnnlab.models.bridge import FirstState
from rnnlab.models.layers import LockedDropout, RecurrentFactory, initialise_all, output_width

_CONDITIONS = (None, "initial", "each_step")


class CharLM(nn.Module):
    """Characters -> embedding or one-hot -> recurrent layers -> logits of the next character, at every step.

    Of labelled texts, the label can be told: by the state before the first character, each part of which is a linear
    map of the label's embedding, or by this embedding beside each character read.

    Args:
        rnn: factory of recurrent layers, called with `input_size`.
        vocab_size: V, number of symbols.
        embedding_size: E; None feeds characters as one-hot vectors, as char-rnn does.
        tie_weights: the read-out's weight is the embedding's (Press and Wolf, 2017; Inan et al., 2017).
        dropout: locked dropout on the embedding and on the output of the layers.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.
        num_labels: K, of the data; None: they have none.
        condition: how a label is told: "initial", by the first state, or "each_step"; None: not at all.
        label_size: C, numbers of a label's embedding.

    Raises:
        ValueError: tied weights of different widths, a bidirectional layer, which would have read the answer, a size
            below 1, or a rate outside [0, 1); a condition without labels, or on the first state of a layer whose state
            cannot be set.

    Example:
        >>> import functools, torch
        >>> model = CharLM(functools.partial(torch.nn.LSTM, hidden_size=16), vocab_size=12)
        >>> model(torch.zeros(2, 7, dtype=torch.int64)).shape
        torch.Size([2, 7, 12])
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        vocab_size: int,
        embedding_size: int | None = None,
        tie_weights: bool = False,
        dropout: float = 0.0,
        init: Mapping[str, Any] | None = None,
        num_labels: int | None = None,
        condition: str | None = None,
        label_size: int = 16,
    ) -> None:
        super().__init__()
        if embedding_size is not None and (not isinstance(embedding_size, int) or embedding_size < 1):
            raise ValueError(f"model.embedding_size must be an integer of at least 1 or null, got {embedding_size!r}")
        if condition not in _CONDITIONS:
            raise ValueError(f"model.condition must be initial, each_step or null, got {condition!r}")
        if condition is not None and num_labels is None:
            raise ValueError(f"model.condition={condition} needs texts with labels: data=labelled_text")
        if not isinstance(label_size, int) or isinstance(label_size, bool) or label_size < 1:
            raise ValueError(f"model.label_size must be an integer of at least 1, got {label_size!r}")
        self.vocab_size, self.num_labels, self.condition = vocab_size, num_labels, condition
        self.embedding = None if embedding_size is None else nn.Embedding(vocab_size, embedding_size)
        self.label_table = None if num_labels is None or condition is None else nn.Embedding(num_labels, label_size)
        width = vocab_size if embedding_size is None else embedding_size
        self.rnn = rnn(input_size=width + (label_size if condition == "each_step" else 0))
        if self.rnn.bidirectional:
            raise ValueError(
                "a language model needs rnn.bidirectional=false: the reverse direction has read the answer"
            )
        self.first_state = FirstState(label_size, self.rnn) if condition == "initial" else None
        width = output_width(self.rnn)
        self.dropout = LockedDropout(dropout)
        self.head = nn.Linear(width, vocab_size)
        initialise_all([self.rnn], self.head, init)
        if tie_weights:
            if self.embedding is None or embedding_size != width:
                raise ValueError(
                    f"tie_weights=true needs model.embedding_size={width}, the width of the layer's output, got "
                    f"{embedding_size}"
                )
            # The read-out's scale: rows of N(0, 1), an embedding's start, would make the first logits large.
            self.embedding.weight = self.head.weight

    def initial_state(self, batch_size: int, labels: Tensor | None = None) -> Any:
        """Return the recurrent layer's state before the first step of B rows; None, for zeros, if it makes none.

        Args:
            batch_size: B.
            labels: of the rows, int64 (B,); needed where the first state is made of them.
        """
        make = getattr(self.rnn, "initial_state", None)  # torch's own layers have none
        state = None if make is None else make(batch_size)
        return state if self.first_state is None else self.first_state(self._told(labels), state)

    def of(self, labels: Tensor) -> OfLabels:
        """Return this model for rows of these labels, int64 (B,), or (1,) for any: it is asked like one without."""
        return OfLabels(self, labels)

    def forward(
        self,
        ids: Tensor,
        state: Any = None,
        *,
        labels: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the logits of the character after each one read.

        Args:
            ids: int64 (B, T).
            state: the recurrent layer's state before the first step, in the form of its `hx`; None: `initial_state`.
            labels: of what each step belongs to, int64 (B, T); needed by a model that is told them.
            lengths: int64 (B,), steps of each row; the state is that behind the last of them, logits beyond are of no
                meaning.
            reset: bool (B, T), steps before which the state is set to zero.
            return_state: return the state after the last step too.

        Returns:
            Logits (B, T, V); with `return_state`, a pair of these and the state.

        Raises:
            ValueError: labels are missing, or `reset` is given to a model whose first state is made of them: there, a
                text begins with a call.
        """
        if self.first_state is not None:
            if reset is not None:
                raise ValueError("with model.condition=initial a text begins with a window, and reset cannot be given")
            if state is None:
                state = self.initial_state(ids.shape[0], None if labels is None else labels[:, 0])
        ids = ids.t()
        if self.embedding is None:
            x = one_hot(ids, self.vocab_size).to(self.head.weight.dtype)  # (T, B, V)
        else:
            x = self.dropout(self.embedding(ids))
        if self.condition == "each_step":
            x = torch.cat([x, self._told(None if labels is None else labels.t())], dim=2)
        masks = {"lengths": lengths, "reset": None if reset is None else reset.t()}
        given = {name: mask for name, mask in masks.items() if mask is not None}
        if (
            not torch.compiler.is_exporting()
            and x.shape[0] == 1
            and not given
            and not self.training
            and hasattr(self.rnn, "step")
        ):
            # While sampling: oneDNN packs the weights of a layer anew at each call, at several times a step's cost.
            output, state = self.rnn.step(x[0], state)
            output = output.unsqueeze(0)
        else:
            output, state = self.rnn(x, state, **given)
        output = self.dropout(output)  # (T, B, H)
        logits = self.head(output).transpose(0, 1)
        return (logits, state) if return_state else logits

    def _told(self, labels: Tensor | None) -> Tensor:
        """Return the embeddings of labels (..., C)."""
        if labels is None:
            raise ValueError(f"a model with model.condition={self.condition} needs labels")
        assert self.label_table is not None
        return self.label_table(labels)


class OfLabels(nn.Module):
    """A `CharLM` for rows of known labels, for who knows of models without any, such as `rnnlab.decoding`.

    Args:
        model: it may also be one that is told no labels.
        labels: int64 (B,), or (1,) for any number of rows.
    """

    def __init__(self, model: CharLM, labels: Tensor) -> None:
        super().__init__()
        self.model, self.labels = model, labels

    def initial_state(self, batch_size: int) -> Any:
        """Return the state before the first step of B rows."""
        return self.model.initial_state(batch_size, self.labels.expand(batch_size))

    def forward(self, ids: Tensor, state: Any = None, **options: Any) -> Any:
        """Return the logits for characters int64 (B, T), see `CharLM.forward`."""
        return self.model(ids, state, labels=self.labels.unsqueeze(1).expand_as(ids), **options)
