"""Tokens a second in training, rnnlab.nn against torch.nn on packed sequences in the same tagger, in turns.

    python experiments/006_pos_tagging/speed.py [ROUNDS] > experiments/006_pos_tagging/speed.csv

A round is three updates of each arm on the same batches of UD EWT; the ratio is the median over rounds.
"""

import csv
import statistics
import sys
import time
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from rnnlab.cli.memory import keep_freed_memory
from rnnlab.data import TaggerData
from rnnlab.models import Tagger

MODEL = {"char_size": 50, "char_hidden": 100}  # as conf/experiment/pos_tagging/ewt.yaml
# What is varied: character encoder, and tokens of a batch.
ROWS = [("lstm", 600), ("lstm", 2000), ("none", 600), ("none", 2000)]


class Packed(nn.LSTM):
    """torch's LSTM, which takes lengths by packing."""

    def forward(self, x: Tensor, lengths: Tensor):
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        output, state = super().forward(packed)
        return pad_packed_sequence(output, total_length=len(x))[0], state


class PackedCharacters(nn.Module):
    """What `rnnlab.models.tagger.CharLSTM` computes, by one packed bidirectional layer."""

    def __init__(self, num_chars: int, char_size: int, char_hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_chars, char_size, padding_idx=0)
        self.rnn = Packed(char_size, char_hidden, bidirectional=True)

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        _, (h_n, _) = self.rnn(self.embedding(chars.t()), lengths)
        return torch.cat([h_n[0], h_n[1]], dim=1)


def make(arm: str, encoder: str, data: TaggerData) -> tuple[Tagger, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = rnnlab.nn.LSTM if arm == "rnnlab" else Packed
    rnn = partial(layer, hidden_size=200, bidirectional=True)
    model = Tagger(rnn, **data.sizes, char_encoder=encoder, **MODEL)
    if arm == "torch" and encoder == "lstm":
        model.characters = PackedCharacters(data.sizes["num_chars"], **MODEL)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)


def update(model: Tagger, optimizer: torch.optim.Optimizer, batch) -> None:
    loss = cross_entropy(model(batch).flatten(0, 1), batch.tags.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main(rounds: int) -> None:
    keep_freed_memory()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["char_encoder", "max_tokens", "rnnlab_tokens_per_s", "torch_tokens_per_s", "time_ratio"])
    for encoder, max_tokens in ROWS:
        data = TaggerData("ud-ewt/en_ewt-ud-train.conllu", "ud-ewt/en_ewt-ud-dev.conllu", max_tokens=max_tokens)
        data.setup()
        batches = [batch for batch, _ in zip(data.train_dataloader(), range(3 * (rounds + 1)), strict=False)]
        arms = {arm: make(arm, encoder, data) for arm in ("rnnlab", "torch")}
        rates: dict[str, list[float]] = {arm: [] for arm in arms}
        for turn in range(rounds + 1):  # the first one warms up
            some = batches[3 * turn : 3 * turn + 3]
            for arm in sorted(arms, reverse=turn % 2 == 1):
                start = time.perf_counter()
                for batch in some:
                    update(*arms[arm], batch)
                rates[arm].append(sum(int(batch.lengths.sum()) for batch in some) / (time.perf_counter() - start))
        ratio = statistics.median(t / r for r, t in zip(rates["rnnlab"][1:], rates["torch"][1:], strict=True))
        medians = [round(statistics.median(values[1:])) for values in rates.values()]
        writer.writerow([encoder, max_tokens, *medians, f"{ratio:.3f}"])
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
