"""What a character model expects and remembers at every character of a passage.

Letters: N characters, V vocabulary, U hidden units, L layers, H units a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnnlab.decoding.sampling import START, evaluating


class Recording(NamedTuple):
    """A passage as a model read it.

    Attributes:
        nats: -ln p of each character, given those before it, float64 (N,).
        states: hidden units after reading each character, float32 (N, U); tanh(c) where c is a cell state.
        units: the units' names, U, as 'layer 1, h 37' or 'layer 1, tanh(c) 37'.
    """

    nats: np.ndarray
    states: np.ndarray
    units: list[str]


def choose_document(documents: Sequence[Any], length: int) -> Any:
    """Return the first document (with `text`) of at least `length` characters, or else the longest."""
    longest = max(documents, key=lambda document: len(document.text))
    return next((document for document in documents if len(document.text) >= length), longest)


def reader_of(model: nn.Module, document: Any) -> nn.Module:
    """Return a character model as it reads a document: told its label, if that has one."""
    label = getattr(document, "label", None)
    return model if label is None else model.of(torch.tensor([label], device=next(model.parameters()).device))


def surprise(model: nn.Module, vocabulary: Any, text: str, context: str = "") -> np.ndarray:
    """Return -ln p of each character of a passage, float64 (N,), from one call of the model; arguments as `record`."""
    ids = _read(model, vocabulary, context + text)
    with evaluating(model), torch.inference_mode():
        logits = model(ids[None, :-1])[0, len(context) :]
    return _nats(logits, ids[len(context) + 1 :])


def record(model: nn.Module, vocabulary: Any, text: str, context: str = "") -> Recording:
    """Let a model read a passage one character at a time.

    Args:
        model: as `rnnlab.models.CharLM`: ids (1, T) and a state give logits (1, T, V) and, with `return_state=True`,
            the next state, a tensor (..., 1, H) or a tuple, nested or not, of such. It reads in evaluation mode.
        vocabulary: the model's `rnnlab.data.vocabulary.Vocabulary`; characters that it lacks are read as unknown.
        text: the passage, N >= 1.
        context: what stands before it in its document: read, but not recorded. Before that comes the start symbol.
    """
    ids = _read(model, vocabulary, context + text)
    logits, states = [], []
    parts: list[tuple[str, Tensor]] = []
    with evaluating(model), torch.inference_mode():
        state = None
        for step in range(len(ids)):
            output, state = model(ids[None, step : step + 1], state, return_state=True)
            logits.append(output[0, 0])
            if step > len(context):
                parts = list(_parts(state))
                states.append(torch.cat([values for _, values in parts]))
    names = [f"{name} {unit}" for name, values in parts for unit in range(len(values))]
    # What is expected after the last character is not in the passage.
    nats = _nats(torch.stack(logits[len(context) : -1]), ids[len(context) + 1 :])
    return Recording(nats, torch.stack(states).float().cpu().numpy(), names)


def _read(model: nn.Module, vocabulary: Any, text: str) -> Tensor:
    """Return the numbers of the start symbol and of each character, int64 (1 + N,), on the model's device."""
    return torch.tensor([START, *vocabulary.encode(text)], device=next(model.parameters()).device)


def _nats(logits: Tensor, ids: Tensor) -> np.ndarray:
    """Return -ln p (N,) of symbols (N,) by logits (N, V)."""
    return -logits.double().log_softmax(-1).gather(-1, ids[:, None])[:, 0].cpu().numpy()


def _parts(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """Yield a name and the values (H,) of each layer and kind in a state of one row."""
    if isinstance(state, Tensor):
        yield from _layers(state, path)
        return
    names = getattr(state, "_fields", None)
    if names is None and len(state) == 2 and all(isinstance(part, Tensor) and part.ndim == 3 for part in state):
        names = ("h", "c")  # of torch's LSTM
    if names is None:  # one state for each layer; further down nothing is known
        names = [str(index) if path else f"layer {index + 1}" for index in range(len(state))]
    for name, part in zip(names, state, strict=True):
        yield from _parts(part, (*path, name))


def _layers(state: Tensor, path: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield a name and the values (H,) of a tensor (1, H), or of each layer of one (L, 1, H)."""
    rows = state.select(-2, 0)
    kind = path or ("h",)
    is_cell = kind[-1] == "c"
    kind = (*kind[:-1], "tanh(c)") if is_cell else kind
    for layer, values in enumerate(rows.reshape(-1, rows.shape[-1]), start=1):
        name = ", ".join(kind if rows.ndim == 1 else (f"layer {layer}", *kind))
        if values.is_complex():
            yield f"{name}, real part", values.real
            yield f"{name}, imaginary part", values.imag
        else:
            yield name, values.tanh() if is_cell else values
