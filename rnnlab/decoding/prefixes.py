"""Prefix beam search over the classes of frames (Graves, 2008; Hannun et al., 2014), for many rows side by side.

Letters: T frames, B rows, V classes with the blank, K prefixes in the beam, k classes that may extend one.

The search adds up alignments as it goes. Of each prefix it holds the probability b that it ends in a blank, and n that
it ends in its last symbol c; with y the probabilities of the next frame, and the prefix without c called its parent:

    b' = (b + n) y(blank)        n' = n y(c) + (b + n of the parent) y(c)

where a parent that ends in c itself gives its b alone: equal symbols need a blank in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from rnnlab.decoding.alignment import BLANK
from rnnlab.decoding.language_model import LanguageModel
from rnnlab.decoding.search import largest

_NONE = -1  # where there is no prefix


class Options(NamedTuple):
    """See `rnnlab.decoding.prefix_beam`."""

    beam: int
    model: LanguageModel | None
    lm_weight: float
    insertion_bonus: float
    min_prob: float


class Text(NamedTuple):
    """Symbols, their log-probability in nats, and that with model and bonus."""

    ids: list[int]
    log_prob: float
    score: float


class _Beam(NamedTuple):
    """Prefixes of B rows, (B, K) each; where there is none, `node` and `parent` are -1, `blank` and `symbol` -inf.

    `blank` and `symbol` are ln b and ln n, and `prior` what is added to ln(b + n) to rank a prefix.
    """

    node: np.ndarray
    parent: np.ndarray
    last: np.ndarray
    blank: np.ndarray
    symbol: np.ndarray
    prior: np.ndarray


class PrefixSearch:
    """A search of B rows, frame by frame.

    Args:
        num_rows: B.
        num_classes: V.
        options: of the search.
    """

    def __init__(self, num_rows: int, num_classes: int, options: Options) -> None:
        self.options = options
        self.tree = _Tree(num_rows, num_classes)
        self.expected = None if options.model is None else _Expected(options.model, self.tree)
        roots = np.arange(num_rows).reshape(-1, 1)
        zeros, nothing = np.zeros(roots.shape), np.full(roots.shape, -np.inf)
        self.beam = _Beam(roots, np.full_like(roots, _NONE), np.full_like(roots, BLANK), zeros, nothing, zeros)

    def run(self, log_probs: np.ndarray, lengths: np.ndarray, n_best: int) -> list[list[Text]]:
        """Read rows of float64 (T, B, V) as far as their lengths (B,), which fall; return the `texts` of each."""
        found: list[list[Text]] = [[] for _ in range(len(lengths))]
        for t in range(len(log_probs) + 1):
            live, still = len(self.beam.node), int((lengths > t).sum())
            for row in range(still, live):
                found[row] = self.texts(row, n_best)
            if not still:
                break
            self.read(log_probs[t, :still])
        return found

    def read(self, frame: np.ndarray) -> None:
        """Go on by a frame (B', V) with the first B' rows; the others are over."""
        self.beam = self._read(_Beam(*(part[: len(frame)] for part in self.beam)), frame)

    def texts(self, row: int, n_best: int) -> list[Text]:
        """Return up to `n_best` texts of a row by falling score, of those that are left in its beam."""
        return self._texts(_Beam(*(part[row] for part in self.beam)), n_best)

    def forget(self) -> None:
        """Forget the prefixes that lead to none in the beam, which changes no text that will be found."""
        beam = set(self.beam.node[self.beam.node != _NONE].tolist())
        if self.expected is not None:
            self.expected.keep(beam)
        new = self.tree.keep(beam)
        if self.expected is not None:
            self.expected.renumber(new)
        node, parent = (
            np.array([[new.get(number, _NONE) for number in row] for row in part.tolist()], dtype=np.int64)
            for part in (self.beam.node, self.beam.parent)
        )
        self.beam = self.beam._replace(node=node, parent=parent)

    def _read(self, beam: _Beam, frame: np.ndarray) -> _Beam:
        """Return the beam behind a frame (B, V)."""
        rows = np.arange(len(frame))[:, None]
        total = np.logaddexp(beam.blank, beam.symbol)

        # A prefix stays by a blank, by its last symbol again, or by that symbol anew behind its parent in the beam.
        blank = total + frame[:, :1]
        is_child = (beam.parent[:, :, None] == beam.node[:, None, :]) & (beam.parent[:, :, None] != _NONE)  # (B, K, K)
        has_parent, parent = is_child.any(2), is_child.argmax(2)
        anew = np.where(beam.last[rows, parent] == beam.last, beam.blank[rows, parent], total[rows, parent])
        symbol = np.logaddexp(beam.symbol, np.where(has_parent, anew, -np.inf)) + frame[rows, beam.last]

        # A prefix is extended by a symbol, (B, K, k), unless what comes of it is in the beam.
        classes, log_probs = _likely(frame, self.options.min_prob)
        is_repeat = beam.last[:, :, None] == classes[:, None, :]
        longer = np.where(is_repeat, beam.blank[:, :, None], total[:, :, None]) + log_probs[:, None, :]
        row, child = np.nonzero(has_parent)
        number, place = np.nonzero(classes[row] == beam.last[row, child, None])
        row, child = row[number], child[number]
        longer[row, parent[row, child], place] = -np.inf
        return self._choose(beam, blank, symbol, classes, longer)

    def _choose(
        self, beam: _Beam, blank: np.ndarray, symbol: np.ndarray, classes: np.ndarray, longer: np.ndarray
    ) -> _Beam:
        """Return the best of the prefixes that stay, with ln b' and ln n' (B, K), and the longer ones, (B, K, k)."""
        (num_rows, width), num_longer = beam.node.shape, longer.shape[2]
        keys = beam.node[:, :, None] * self.tree.num_classes + classes[:, None, :]
        prior = beam.prior[:, :, None] + np.full(longer.shape, self.options.insertion_bonus)
        if self.expected is not None:
            wanted = longer > -np.inf
            prior[wanted] += self.options.lm_weight * self.expected.log_probs(keys[wanted])
        keys, longer, prior = (part.reshape(num_rows, -1) for part in (keys, longer, prior))

        scores = np.concatenate([np.logaddexp(blank, symbol) + beam.prior, longer + prior], axis=1)
        count = min(self.options.beam, max(1, int((scores > -np.inf).sum(1).max())))
        values, places = (part.numpy() for part in largest(torch.from_numpy(scores), count))
        is_prefix, stays = values > -np.inf, places < width
        is_new = is_prefix & ~stays
        rows, place = np.arange(num_rows)[:, None], np.where(stays, 0, places - width)
        origin = np.where(stays, places, place // num_longer)

        node = np.where(is_prefix, beam.node[rows, origin], _NONE)
        parent = np.where(is_new, node, np.where(is_prefix, beam.parent[rows, origin], _NONE))
        node[is_new] = self.tree.grow(keys[rows, place][is_new])
        return _Beam(
            node,
            parent,
            np.where(stays, beam.last[rows, origin], classes[rows, place % num_longer]),
            np.where(is_prefix & stays, blank[rows, origin], -np.inf),
            np.where(is_prefix, np.where(stays, symbol[rows, origin], longer[rows, place]), -np.inf),
            np.where(stays, beam.prior[rows, origin], prior[rows, place]),
        )

    def _texts(self, beam: _Beam, n_best: int) -> list[Text]:
        """Return the best texts of one row, whose beam is (K,)."""
        log_probs = np.logaddexp(beam.blank, beam.symbol)
        scores = log_probs + beam.prior
        best = [place for place in np.argsort(-scores, kind="stable")[:n_best] if scores[place] > -np.inf]
        return [Text(self.tree.text(beam.node[place]), float(log_probs[place]), float(scores[place])) for place in best]


class _Tree:
    """Prefixes of all rows: the roots are 0 to B - 1, and a child is known by its key, parent * V + symbol.

    A prefix that left the beam and comes back is the same again, and its children in the beam are its own.
    """

    def __init__(self, num_rows: int, num_classes: int) -> None:
        self.num_rows, self.num_classes = num_rows, num_classes
        self.keys: list[int] = []  # of the children, in the order of their numbers
        self._nodes: dict[int, int] = {}

    def grow(self, keys: np.ndarray) -> list[int]:
        """Return the nodes of keys (N,), new ones where there were none."""
        nodes = []
        for key in keys.tolist():
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = self.num_rows + len(self.keys)
                self.keys.append(key)
            nodes.append(node)
        return nodes

    def node(self, key: int) -> int | None:
        """Return the node of a key, if there is one."""
        return self._nodes.get(key)

    def keep(self, nodes: Iterable[int]) -> dict[int, int]:
        """Forget all but the roots, some nodes and what leads to them; return the new number of each by its old one."""
        kept: set[int] = set()
        for node in nodes:
            while node >= self.num_rows and node not in kept:
                kept.add(node)
                node = self.keys[node - self.num_rows] // self.num_classes
        new = {root: root for root in range(self.num_rows)}
        keys = []
        for node in sorted(kept):  # a parent has a lower number than its children
            parent, symbol = divmod(self.keys[node - self.num_rows], self.num_classes)
            new[node] = self.num_rows + len(keys)
            keys.append(new[parent] * self.num_classes + symbol)
        self.keys[:] = keys
        self._nodes = {key: self.num_rows + place for place, key in enumerate(keys)}
        return new

    def text(self, node: int) -> list[int]:
        """Return the symbols from the root to a node."""
        symbols = []
        while node >= self.num_rows:
            node, symbol = divmod(self.keys[node - self.num_rows], self.num_classes)
            symbols.append(symbol)
        return symbols[::-1]


class _Expected:
    """What a language model expects behind the nodes of a tree; it is asked for nothing twice."""

    def __init__(self, model: LanguageModel, tree: _Tree) -> None:
        self._model, self._tree, self._start = model, tree, model.start()
        self._known: dict[int, tuple[float, Any]] = {}  # by key, the log-probability and the state behind it

    def log_probs(self, keys: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of the last symbols of keys (N,)."""
        return np.array([self._ask(key)[0] for key in keys.tolist()])

    def keep(self, nodes: set[int]) -> None:
        """Forget all but what is behind some nodes of the tree, and what was expected to follow them."""
        self._known = {
            key: known
            for key, known in self._known.items()
            if key // self._tree.num_classes in nodes or self._tree.node(key) in nodes
        }

    def renumber(self, new: dict[int, int]) -> None:
        """Take the new numbers of nodes for their old ones."""
        known = ((divmod(key, self._tree.num_classes), each) for key, each in self._known.items())
        self._known = {new[parent] * self._tree.num_classes + symbol: each for (parent, symbol), each in known}

    def _ask(self, key: int) -> tuple[float, Any]:
        found = self._known.get(key)
        if found is None:
            parent, symbol = divmod(key, self._tree.num_classes)
            child = parent - self._tree.num_rows
            state = self._start if child < 0 else self._known[self._tree.keys[child]][1]
            found = self._known[key] = self._model.score(state, symbol)
        return found


def _likely(frame: np.ndarray, min_prob: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that may extend a prefix and their log-probabilities, (B, k), -inf of those that may not."""
    allowed = frame.copy()
    allowed[:, BLANK] = -np.inf
    if not min_prob:
        return np.broadcast_to(np.arange(frame.shape[1]), frame.shape), allowed
    allowed[allowed < np.log(min_prob)] = -np.inf
    count = max(1, int((allowed > -np.inf).sum(1).max()))
    log_probs, classes = largest(torch.from_numpy(allowed), count)
    return classes.numpy(), log_probs.numpy()
