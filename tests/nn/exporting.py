"""The modules that test_export.py exports, and their export to ONNX: `python -m tests.nn.exporting DIRECTORY`.

A process of its own, because torch's exporter leaves warnings and state behind.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim

import rnnlab.nn
from rnnlab.nn.export import export_onnx, exportable, onnx_translations


class Case(NamedTuple):
    """A layer of two layers, 3 inputs and 4 units, and how it is exported."""

    kind: str
    options: dict[str, Any]
    streaming: bool = False
    lengths: bool = False

    def build(self) -> Any:
        torch.manual_seed(0)
        return getattr(rnnlab.nn, self.kind)(3, 4, 2, **self.options).requires_grad_(False).eval()


CASES = {
    "lstm": Case("LSTM", {"batch_first": True}),
    "gru both ways, lengths": Case("GRU", {"bidirectional": True, "batch_first": True}, lengths=True),
    "rnn, no bias": Case("RNN", {"nonlinearity": "relu", "bias": False}),
    "lstm, streaming": Case("LSTM", {"batch_first": True}, streaming=True),
}


class Tagger(nn.Module):
    """Embedding, layer and head: a model that knows nothing of its export."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 3)
        self.rnn = rnnlab.nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(tokens), lengths=lengths)[0])


def build_tagger() -> Tagger:
    torch.manual_seed(1)
    return Tagger().requires_grad_(False).eval()


def export_tagger(path: Path) -> None:
    batch, time = Dim("batch"), Dim("time")
    inputs = torch.zeros(2, 5, dtype=torch.int64), torch.tensor([5, 3])
    program = torch.export.export(exportable(build_tagger()), inputs, dynamic_shapes=({0: batch, 1: time}, {0: batch}))
    torch.onnx.export(program, f=path, custom_translation_table=onnx_translations(), verbose=False)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    for name, case in CASES.items():
        export_onnx(case.build(), directory / f"{name}.onnx", streaming=case.streaming, lengths=case.lengths)
    export_tagger(directory / "tagger.onnx")
