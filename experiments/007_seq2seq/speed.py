"""Training and beam search of an encoder and decoder with attention, beside the same model written plainly on torch.nn.

    python experiments/007_seq2seq/speed.py experiments/007_seq2seq/speed.csv

The plain model has torch.nn.LSTM, packed where lengths differ, torch.bmm for attention, and a beam search over (B, K)
rows with torch.topk. Both have the same weights and give the same logits, and the answers of ours are no less likely,
which is asserted.
Arms take turns within one process; a row is the median over the rounds.
"""

from __future__ import annotations

import csv
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line: threads that spin take what else runs

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnlab.decoding import translate
from rnnlab.decoding.symbols import END, PADDING, START
from rnnlab.models import EncoderDecoder
from rnnlab.nn import LSTM

SYMBOLS, EMBEDDING, HIDDEN, BATCH, STEPS, BEAM, ROUNDS = 40, 128, 256, 256, 8, 5, 9
WORDS, TENTH = 1_000, 10  # the one-by-one loop takes each tenth word


class Plain(nn.Module):
    """The model of `EncoderDecoder` with attention "general", as one would write it down."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.source, self.target, self.head, self.combine = (
            *(model.source_table, model.target_table),
            *(model.head, model.combine),
        )
        self.bridge, self.key = model.bridge, model.attention.key
        self.encoder = nn.LSTM(EMBEDDING, HIDDEN, bidirectional=True)
        self.decoder = nn.LSTM(EMBEDDING, HIDDEN)
        self.encoder.load_state_dict(model.encoder.state_dict())
        self.decoder.load_state_dict(model.decoder.state_dict())

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        x = self.source(source.t())
        if int(lengths.min()) == source.shape[1]:
            outputs, (h, c) = self.encoder(x)
        else:
            packed, (h, c) = self.encoder(pack_padded_sequence(x, lengths, enforce_sorted=False))
            outputs, _ = pad_packed_sequence(packed, total_length=source.shape[1])
        maps = self.bridge.maps[0]
        start = maps["h"](torch.cat(tuple(h), 1))[None], maps["c"](torch.cat(tuple(c), 1))[None]
        mask = torch.arange(source.shape[1]) < lengths[:, None]
        return outputs.transpose(0, 1), mask, start

    def read(self, hidden: Tensor, outputs: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, U, V) for outputs of the decoder (B, U, H)."""
        scores = torch.bmm(hidden, self.key(outputs).transpose(1, 2)).masked_fill(~mask[:, None], -torch.inf)
        context = torch.bmm(scores.softmax(2), outputs)
        return self.head(torch.tanh(self.combine(torch.cat([context, hidden], 2))))

    def forward(self, batch: Any) -> Tensor:
        outputs, mask, start = self.encode(batch.source, batch.source_lengths)
        tokens = torch.cat([torch.full((len(batch.target), 1), START), batch.target[:, :-1]], 1)
        hidden, _ = self.decoder(self.target(tokens.t()), start)
        return self.read(hidden.transpose(0, 1), outputs, mask)

    @torch.inference_mode()
    def beam_search(self, source: Tensor, lengths: Tensor, limit: int) -> Tensor:
        """Return the log-probability of the best answer to each source (B,)."""
        outputs, mask, (h, c) = self.encode(source, lengths)
        size = len(source)
        outputs, mask = outputs.repeat_interleave(BEAM, 0), mask.repeat_interleave(BEAM, 0)
        h, c = h.repeat_interleave(BEAM, 1), c.repeat_interleave(BEAM, 1)
        totals = torch.full((size, BEAM), -torch.inf)
        totals[:, 0] = 0
        ids = torch.full((size, BEAM, 0), START)
        over = torch.zeros(size, BEAM, dtype=torch.bool)
        tokens = torch.full((size * BEAM,), START)
        only_end = torch.full((SYMBOLS,), -torch.inf)
        only_end[PADDING] = 0
        for _ in range(limit):
            hidden, (h, c) = self.decoder(self.target(tokens)[None], (h, c))
            logits = self.read(hidden.transpose(0, 1), outputs, mask)[:, 0]
            logits = logits.log_softmax(1).view(size, BEAM, SYMBOLS)
            logits[:, :, :END] = -torch.inf
            logits[over] = only_end
            totals, places = (totals[:, :, None] + logits).flatten(1).topk(BEAM, 1)
            parents, symbols = places // SYMBOLS, places % SYMBOLS
            rows = (torch.arange(size)[:, None] * BEAM + parents).flatten()
            h, c = h[:, rows], c[:, rows]
            over = over.gather(1, parents) | (symbols == END)
            ids = torch.cat([ids.gather(1, parents[:, :, None].expand_as(ids)), symbols[:, :, None]], 2)
            tokens = symbols.flatten()
            if over.all():
                break
        return totals[:, 0]


def interleaved(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each arm; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 2):
        for name, arm in arms.items():
            begin = time.perf_counter()
            arm()
            if turn >= 2:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def words(number: int, lengths: Tensor) -> SimpleNamespace:
    """Return sources of these lengths and targets as long as they are, symbols drawn at random."""
    longest = int(lengths.max())
    drawn = torch.randint(END + 1, SYMBOLS, (2, number, longest))
    inside = torch.arange(longest) < lengths[:, None]
    source, target = drawn[0] * inside, drawn[1] * inside
    return SimpleNamespace(source=source, source_lengths=lengths, target=target)


def step_of(model: nn.Module, batch: SimpleNamespace) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        logits = model(batch)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), ignore_index=PADDING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def train_a_little(model: nn.Module) -> None:
    """Teach a model to copy, so that its answers end where they should."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, fused=True)
    for _ in range(120):
        length = int(torch.randint(3, 12, ()))
        source = torch.randint(END + 1, SYMBOLS, (128, length))
        target = torch.cat([source, torch.full((128, 1), END)], 1)
        batch = SimpleNamespace(source=source, source_lengths=torch.full((128,), length), target=target)
        loss = nn.functional.cross_entropy(model(batch).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(threads: int) -> list[tuple[str, int, str, float]]:
    """Return rows of work, threads, arm and target symbols a second."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    rnn = functools.partial(LSTM, hidden_size=HIDDEN, bidirectional=True)
    model = EncoderDecoder(rnn, SYMBOLS, SYMBOLS, embedding_size=EMBEDDING, attention="general")
    train_a_little(model)
    plain, rows = Plain(model), []
    even = torch.full((BATCH,), STEPS)
    ragged = torch.randint(STEPS // 2, STEPS + STEPS // 2 + 1, (BATCH,))
    for name, lengths in (("even", even), ("ragged", ragged)):
        batch = words(BATCH, lengths)
        torch.testing.assert_close(model(batch), plain(batch), atol=1e-4, rtol=1e-4)
        seconds = interleaved({"rnnlab": step_of(model, batch), "plain": step_of(plain, batch)}, ROUNDS)
        rows += [(f"training, {name} lengths", threads, arm, int(lengths.sum()) / s) for arm, s in seconds.items()]
        plain.load_state_dict({**plain.state_dict(), **shared(model)})
    batch = words(WORDS, torch.randint(3, 12, (WORDS,)))
    source, lengths, limit = batch.source, batch.source_lengths, 2 * batch.source.shape[1] + 20
    search = functools.partial(translate, model, max_length=limit, beam=BEAM)
    ours = [best for best, *_ in search(source, lengths)]
    # Ours keeps what is finished aside, where the plain one lets it be crowded out: it may find better answers.
    found = torch.tensor([best.log_prob for best in ours]), plain.beam_search(source, lengths, limit)
    assert float((found[0] - found[1]).mean()) > -0.01, [float(part.mean()) for part in found]

    def one_by_one() -> None:
        for row in range(0, WORDS, TENTH):
            search(source[row : row + 1, : int(lengths[row])], lengths[row : row + 1])

    arms = {
        "rnnlab": lambda: search(source, lengths),
        "plain": lambda: plain.beam_search(source, lengths, limit),
        "rnnlab, one by one": one_by_one,
    }
    seconds = interleaved(arms, 5)
    seconds["rnnlab, one by one"] *= TENTH
    symbols = sum(len(best.ids) + 1 for best in ours)
    return rows + [(f"beam {BEAM} of {WORDS} words", threads, arm, symbols / s) for arm, s in seconds.items()]


def main(path: str) -> None:
    # A process for each number of threads.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = [row for threads in (1, 2) for row in pool.submit(measure, threads).result()]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["work", "threads", "arm", "target_symbols_per_s"])
        writer.writerows((*row[:3], f"{row[3]:.0f}") for row in rows)
    for row in rows:
        print(*row[:3], f"{row[3]:,.0f} target symbols/s", sep="  ")


def shared(model: EncoderDecoder) -> dict[str, Tensor]:
    """Return the weights of the model's layers by the names that the plain model has for them."""
    return {
        f"{side}.{name}": value
        for side in ("encoder", "decoder")
        for name, value in getattr(model, side).state_dict().items()
    }


if __name__ == "__main__":
    main(sys.argv[1])
