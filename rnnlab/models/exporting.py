"""Models as functions of tensors: what an exported one is called with, whatever batch it reads in training.

An exported model is the network alone. Search for answers, sampling, Viterbi and texts stay in Python: of encoders and
decoders it gives the scores of each target symbol under those before it, of a CRF the scores of single tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnnlab.models.adder import Adder
from rnnlab.models.char_lm import CharLM
from rnnlab.models.classifier import Classifier
from rnnlab.models.delineator import Delineator
from rnnlab.models.distribution_forecaster import DirectForecaster
from rnnlab.models.encoder_decoder import EncoderDecoder
from rnnlab.models.forecaster import Forecaster
from rnnlab.models.linear_forecaster import LinearForecaster
from rnnlab.models.listener import Listener
from rnnlab.models.narx_forecaster import NARXForecaster
from rnnlab.models.segment_tagger import SegmentTagger
from rnnlab.models.tagger import Tagger
from rnnlab.models.transcriber import Transcriber
from rnnlab.models.transformer import TransformerSeq2Seq
from rnnlab.models.vector_decoder import VectorDecoder
from rnnlab.models.vector_generator import VectorGenerator

Inputs = dict[str, Tensor]


class Form(NamedTuple):
    """How a model is called once it is exported.

    Attributes:
        call: what it does with its inputs.
        example: makes inputs of B rows and T steps.
        axes: for each input, which of its axes are free, by name.
    """

    call: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    example: Callable[[int, int], Inputs]
    axes: dict[str, dict[int, str]]


class Exported(nn.Module):
    """A model as a function of tensors in the order of its form's inputs."""

    def __init__(self, model: nn.Module, form: Form) -> None:
        super().__init__()
        self.model, self.form, self.names = model, form, list(form.axes)

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.form.call(self.model, dict(zip(self.names, tensors, strict=True)))


def form_of(model: nn.Module, sizes: Mapping[str, Any]) -> Form:
    """Return how a model is called when it is exported.

    Args:
        model: of one of the tasks.
        sizes: of its data.

    Raises:
        ValueError: it cannot be exported, with the reason.
    """
    if getattr(model, "input_feeding", False):
        raise ValueError("model.input_feeding=true reads its own output at each step, in a loop of Python")
    for kinds, make in _FORMS.items():
        if isinstance(model, kinds):
            return make(model, sizes)
    raise ValueError(f"{type(model).__name__} answers by a loop of Python, and has no forward pass of tensors alone")


def _ids(high: int, *shape: int) -> Tensor:
    return torch.randint(min(4, high - 1), high, shape)


def _lengths(rows: int, steps: int) -> Tensor:
    """Return lengths (B,), the first row the longest."""
    return torch.tensor([max(1, steps - row) for row in range(rows)])


def _adder(model: Any, sizes: Mapping[str, Any]) -> Form:
    return Form(
        lambda model, given: model(given["questions"]),
        lambda rows, steps: {"questions": _ids(model.vocab_size, rows, steps)},
        {"questions": {0: "batch", 1: "time"}},
    )


def _series(model: Any, sizes: Mapping[str, Any]) -> Form:
    width = sizes["input_size"]
    least = getattr(model, "window", getattr(model, "taps", 1))  # linear models and NARX read the end of a series
    return Form(
        lambda model, given: model(given["x"]),
        lambda rows, steps: {"x": torch.randn(rows, steps + least, width)},
        {"x": {0: "batch", 1: "time"}},
    )


def _characters(model: Any, sizes: Mapping[str, Any]) -> Form:
    is_told = model.condition is not None
    axes = {0: "batch", 1: "time"}

    def example(rows: int, steps: int) -> Inputs:
        labels = {"labels": torch.zeros(rows, steps, dtype=torch.int64)} if is_told else {}
        return {"ids": _ids(model.vocab_size, rows, steps), **labels}

    return Form(
        lambda model, given: model(given["ids"], labels=given.get("labels")),
        example,
        {"ids": axes, **({"labels": axes} if is_told else {})},
    )


def _tagger(model: Any, sizes: Mapping[str, Any]) -> Form:
    axes: dict[str, dict[int, str]] = {"words": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    if model.characters is not None:
        axes |= {"forms": axes["words"], "chars": {0: "forms", 1: "characters"}, "char_lengths": {0: "forms"}}

    def example(rows: int, steps: int) -> Inputs:
        made = {"words": _ids(model.words.num_embeddings, rows, steps), "lengths": _lengths(rows, steps)}
        if model.characters is not None:
            count = 2 * rows + 7
            made["forms"] = torch.randint(count, (rows, steps))
            made["chars"] = _ids(model.characters.embedding.num_embeddings, count, 6 + rows)
            made["char_lengths"] = _lengths(count, 6 + rows).clamp(min=2)
        return made

    def call(model: nn.Module, given: Mapping[str, Tensor]) -> Tensor:
        forms = given.get("forms", given["words"])
        chars, char_lengths = given.get("chars"), given.get("char_lengths")
        return model(SimpleNamespace(**{"chars": chars, "char_lengths": char_lengths, **given, "forms": forms}))

    return Form(call, example, axes)


def _pairs(model: Any, sizes: Mapping[str, Any]) -> Form:
    longest = getattr(model, "source_length", None)
    is_heard = isinstance(model, Listener)
    source_axes = {0: "batch"} if longest else {0: "batch", 1: "source"}

    def example(rows: int, steps: int) -> Inputs:
        length = longest or steps + 3
        symbols = sizes.get("source_size", 5)
        source = torch.randn(rows, length, model.num_features) if is_heard else _ids(symbols, rows, length)
        target = _ids(model.head.out_features, rows, steps)
        return {"source": source, "source_lengths": _lengths(rows, length), "target": target}

    return Form(
        lambda model, given: model(SimpleNamespace(**given)),
        example,
        {"source": source_axes, "source_lengths": {0: "batch"}, "target": {0: "batch", 1: "time"}},
    )


def _frames(name: str, width: str) -> Callable[[Any, Mapping[str, Any]], Form]:
    def make(model: Any, sizes: Mapping[str, Any]) -> Form:
        def call(model: nn.Module, given: Mapping[str, Tensor]) -> Tensor:
            scores = model(given[name], given["lengths"])
            return scores[0] if isinstance(scores, tuple) else scores

        def example(rows: int, steps: int) -> Inputs:
            stack = getattr(model, "stack", 1)
            size = getattr(model, width)
            return {name: torch.randn(stack * steps, rows, size), "lengths": _lengths(rows, stack * steps)}

        return Form(call, example, {name: {0: "time", 1: "batch"}, "lengths": {0: "batch"}})

    return make


def _segments(model: Any, sizes: Mapping[str, Any]) -> Form:
    width = sizes["num_features"]
    return Form(
        lambda model, given: model(SimpleNamespace(**given)),
        lambda rows, steps: {"segments": torch.randn(steps, rows, width), "lengths": _lengths(rows, steps)},
        {"segments": {0: "time", 1: "batch"}, "lengths": {0: "batch"}},
    )


def _signal(model: Any, sizes: Mapping[str, Any]) -> Form:
    return Form(
        lambda model, given: model(given["signal"]),
        lambda rows, steps: {"signal": torch.randn(rows, model.stack * (steps + 20))},
        {"signal": {0: "batch", 1: "time"}},
    )


def _vectors(model: Any, sizes: Mapping[str, Any]) -> Form:
    width = sizes["vector_size"]
    return Form(
        lambda model, given: model(given["vectors"]),
        lambda rows, steps: {"vectors": torch.rand(rows, width)},
        {"vectors": {0: "batch"}},
    )


def _table(model: Any, sizes: Mapping[str, Any]) -> Form:
    past, future, horizon = sizes["input_size"], sizes["future_size"], model.horizon
    least = getattr(model, "window", None) or 0  # linear models read the end of a series
    axes: dict[str, dict[int, str]] = {"past": {0: "batch", 1: "time"}, "series": {0: "batch"}}
    if future:
        axes["future"] = {0: "batch"}

    def example(rows: int, steps: int) -> Inputs:
        made = {"past": torch.randn(rows, steps + least, past), "series": torch.zeros(rows, dtype=torch.int64)}
        return made | ({"future": torch.randn(rows, horizon, future)} if future else {})

    def call(model: Any, given: Mapping[str, Tensor]) -> Tensor:
        return model.raw(SimpleNamespace(**{"future": None, **given}), horizon)

    return Form(call, example, axes)


_FORMS: dict[Any, Callable[[Any, Mapping[str, Any]], Form]] = {
    Adder: _adder,
    (Forecaster, LinearForecaster, NARXForecaster): _series,
    CharLM: _characters,
    Tagger: _tagger,
    SegmentTagger: _segments,
    (EncoderDecoder, TransformerSeq2Seq, VectorDecoder): _pairs,
    Transcriber: _frames("features", "num_features"),
    Classifier: _frames("values", "input_size"),
    Delineator: _signal,
    VectorGenerator: _vectors,
    DirectForecaster: _table,
}
