"""The memory of a GPU as programs that run at once may rely on it, byte by byte, and no better.

What the kernels rely on, in the words of PTX's memory model (PTX ISA, chapter "Memory Consistency Model"):

- A kernel sees all that was written before its launch, and all that it writes is seen after it: the order of a stream.
- A release at gpu scope by one thread covers what all threads of its program stored before a CTA barrier
  (`tl.debug_barrier`, bar.sync) that came before it: causality order goes through barriers.
- Arrivals at a counter are atomic read-modify-writes of one scope: none is lost, and a poll with acquire that reads a
  count synchronises with every arrival counted in it, since an observation goes through a chain of them.
- What one thread acquired is acquired for all threads of its program after their next CTA barrier.
- A load before a release does not see what others store after they acquired it: causality again, write after read.
- All programs of a grid are on the chip, and one that polls keeps nobody else from running: a cooperative launch.

Whatever is not promised may go wrong here. Each program has its own view:

- A store reaches others at some time between its execution and the program's next release that a CTA barrier went
  before: at once, then, or anywhere between, each element by itself.
- A load past L1 (`.cg`) gives what others' stores have reached by now, or any older value back to what the program
  acquired last, at a poll that a CTA barrier followed. An own store since the last CTA barrier may be missing, as
  another thread's.
- Any other load goes through L1, which keeps lines of 128 bytes as they came, neighbours and all, until the end of the
  launch or as long as it likes. An acquire does not empty it. That is less than PTX promises, where what was acquired
  is right for plain loads, too: for sm_80 and sm_90 a poll is compiled to LDG.STRONG.GPU and CCTL.IVALL, which empties
  L1 (`Habits.emptied`), so that `.cg` is a second lock on the same door.
- Relaxed atomics, and those at cta scope, order nothing.

Beside values all accesses are ordered by what they are known to come after (vector clocks). Two that touch one byte,
one of them a store, and that no chain of barriers, releases and acquires orders are a race, whether the values of this
schedule show it or not. A load through L1 of what another program stored counts as one. So loads that run late, past a
release, are judged here although none does.

Not modelled: what a compiler makes of a kernel (level 2 counts arrivals and polls in compiled code and looks for loads
past L1), time, several programs on a multiprocessor, shared memory, registers.
"""

import bisect
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LINE = 128  # bytes of a line of L1


class Habits(NamedTuple):
    """How memory behaves where it may choose, each a share of all cases.

    Attributes:
        early: stores that reach others at once; the rest waits for the release, or comes by itself if `drifts`.
        old: loads that give what the program acquired last, and not what is there by now.
        kept: loads that find their line in L1 if it ever came there.
        drifts: stores under way arrive in pieces, at any time.
        emptied: an acquire empties L1.
    """

    early: float
    old: float
    kept: float = 1.0
    drifts: bool = False
    emptied: bool = False


HABITS = {
    "slow": Habits(0.0, 1.0),  # as late and as old as may be
    "quick": Habits(1.0, 0.0),  # overwrites what others have still to read
    "late": Habits(0.0, 0.0),
    "old": Habits(1.0, 1.0),
    "mixed": Habits(0.5, 0.5, 0.5, True),
}


class Memory:
    """Memory of a launch: bytes of its tensors, and each program's view of them.

    Args:
        tensors: that any program may store into, by name. Others need no model.
        programs: how many there are, P.
        habits: of the memory.
        seed: of its choices.
    """

    def __init__(self, tensors: Mapping[str, Tensor], programs: int, habits: Habits, seed: int) -> None:
        self._habits, self._random = habits, np.random.default_rng(seed)
        storages = {
            value.untyped_storage().data_ptr(): name for name, value in reversed(tensors.items()) if value.numel()
        }
        self._bases = sorted(storages)
        self._names = [storages[base] for base in self._bases]
        self._views = [_bytes_of(tensors[name]) for name in self._names]
        sizes = [-(-len(view) // LINE) * LINE for view in self._views]  # each begins a line
        self._places, size = [sum(sizes[:k]) for k in range(len(sizes))], sum(sizes)
        self.now = np.zeros(size, np.uint8)  # what is past L1
        for place, view in zip(self._places, self._views, strict=True):
            self.now[place : place + len(view)] = view
        shape = programs, size
        self._seen = np.tile(self.now, (programs, 1))  # what a program acquired last, and its own stores
        self._acquired: dict[int, np.ndarray] = {}  # the same, before its CTA barrier
        self._stored, self._pending = np.zeros(shape, np.uint8), np.zeros(shape, bool)  # what is under way
        self._fresh = np.zeros(shape, bool)  # stored since the last CTA barrier
        self._lines, self._cached = np.zeros(shape, np.uint8), np.zeros(shape, bool)  # L1
        self.races: set[str] = set()
        # Accesses of program q up to `knows[p, q]` of its epochs, which CTA barriers part, come before those of p.
        self._epoch, self._knows = np.ones(programs, np.int32), np.zeros((programs, programs), np.int32)
        self._gained, self._counters = np.zeros_like(self._knows), {}
        self._writer, self._written = np.full(size, -1, np.int8), np.zeros(size, np.int32)
        self._read = np.zeros(shape, np.int32)

    def find(self, addresses: np.ndarray, width: int) -> np.ndarray | None:
        """Return where elements (N,) of `width` bytes are, (N, width), or None if they are in no modelled tensor."""
        number = bisect.bisect_right(self._bases, int(addresses[0])) - 1
        if number < 0 or int(addresses[0]) >= self._bases[number] + len(self._views[number]):
            return None
        offsets = addresses.astype(np.int64) - self._bases[number]
        assert offsets.min() >= 0 and offsets.max() + width <= len(self._views[number]), self._names[number]
        return self._places[number] + offsets[:, None] + np.arange(width)

    def load(self, program: int, where: np.ndarray, past_l1: bool) -> np.ndarray:
        """Return the bytes (N, width) that a program gets."""
        self._note_load(program, where, past_l1)
        if past_l1:
            return self._fetch(program, where)
        cached, lines = self._cached[program], self._lines[program]
        if self._habits.kept < 1:  # lines go as others come
            there = np.unique(where // LINE)
            for line in there[self._random.random(len(there)) >= self._habits.kept]:
                cached[line * LINE : (line + 1) * LINE] = False
        for line in np.unique(where[~cached[where]] // LINE):
            whole = np.arange(line * LINE, (line + 1) * LINE)
            lines[whole], cached[whole] = self._fetch(program, whole.reshape(-1, where.shape[1])).ravel(), True
        return lines[where]

    def _fetch(self, program: int, where: np.ndarray) -> np.ndarray:
        old = self._seen[program, where]
        new = np.where(self._pending[program, where], self._stored[program, where], self.now[where])
        return np.where(self._chosen(len(where), self._habits.old), old, new)

    def store(self, program: int, where: np.ndarray, values: np.ndarray) -> None:
        """Take the bytes (N, width) that a program stores."""
        self._note_store(program, where)
        pending, fresh = self._pending[program], self._fresh[program]
        self._arrive(program, where[pending[where] & ~fresh[where]])  # a release would have to cover both
        self._stored[program, where] = values
        pending[where] = fresh[where] = True
        cached = self._cached[program, where]
        self._lines[program, where[cached]] = values[cached]
        early = np.broadcast_to(self._chosen(len(where), self._habits.early), where.shape)
        self._arrive(program, where[early])

    def cta_barrier(self, program: int) -> None:
        """Let the threads of a program see what each of them stored and acquired."""
        mine = self._pending[program] | self._fresh[program]
        if program in self._acquired:
            self._seen[program] = self._acquired.pop(program)
            if self._habits.emptied:
                self._cached[program] = False
        self._seen[program, mine] = self._stored[program, mine]
        self._fresh[program] = False
        self._knows[program] = np.maximum(self._knows[program], self._gained[program])
        self._knows[program, program] = self._epoch[program]
        self._epoch[program] += 1

    def atomic_add(self, program: int, where: np.ndarray, value: int, releases: bool, acquires: bool) -> int:
        """Add to a counter of 32 bits, and return what it was."""
        key = int(where[0, 0])
        if releases:
            self._arrive(program, np.flatnonzero(self._pending[program] & ~self._fresh[program]))
            self._counters[key] = np.maximum(self._counters.get(key, 0), self._knows[program])
        before = self.count(where)
        self.now[where.ravel()] = np.array([before + value], np.int32).view(np.uint8)
        if acquires:
            self._acquired[program] = self.now.copy()
            self._gained[program] = np.maximum(self._gained[program], self._counters.get(key, 0))
        return before

    def count(self, where: np.ndarray) -> int:
        """Return what a counter is, as nobody on the chip may look at it."""
        return int(self.now[where.ravel()].view(np.int32)[0])

    def drift(self) -> None:
        """Let some stores under way arrive, if it is this memory's habit."""
        if self._habits.drifts and self._random.random() < 0.25:
            program = self._random.integers(len(self._pending))
            under_way = np.flatnonzero(self._pending[program]).reshape(-1, 2)  # no element is smaller
            self._arrive(program, under_way[self._random.random(len(under_way)) < 0.5].ravel())

    def end(self, program: int) -> None:
        """Let all that a program stored arrive."""
        self._arrive(program, np.flatnonzero(self._pending[program]))

    def give_back(self) -> None:
        """Put what the launch left into the tensors."""
        for place, view in zip(self._places, self._views, strict=True):
            view[:] = self.now[place : place + len(view)]

    def _arrive(self, program: int, where: np.ndarray) -> None:
        self.now[where] = self._stored[program, where]
        self._pending[program, where] = False

    def _chosen(self, number: int, share: float) -> np.ndarray:
        """Return for each element (N, 1) whether it is among a share of all."""
        if share in (0.0, 1.0):
            return np.full((number, 1), bool(share))
        return self._random.random((number, 1)) < share

    def _note_load(self, program: int, where: np.ndarray, past_l1: bool) -> None:
        self._note(program, where, self._overtakes_a_store(program, where), "loads")
        if not past_l1 and not self._habits.emptied:
            writer = self._writer[where]
            self._note(program, where, (writer >= 0) & (writer != program), "loads through L1")
        self._read[program, where] = self._epoch[program]

    def _note_store(self, program: int, where: np.ndarray) -> None:
        self._note(program, where, self._overtakes_a_store(program, where), "stores again")
        late = (self._read[:, where] > self._knows[program][:, None, None]).any(0)
        self._note(program, where, late, "stores over what may still be loaded")
        self._writer[where], self._written[where] = program, self._epoch[program]

    def _overtakes_a_store(self, program: int, where: np.ndarray) -> np.ndarray:
        writer = self._writer[where]
        return (writer >= 0) & (self._written[where] > self._knows[program, writer])

    def _note(self, program: int, where: np.ndarray, wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            number = bisect.bisect_right(self._places, int(where[wrong][0])) - 1
            self.races.add(f"{self._names[number]}: program {program} {what}")


def _bytes_of(value: Tensor) -> np.ndarray:
    """Return the memory of a tensor, and of all others that share it."""
    return torch.tensor([], dtype=torch.uint8).set_(value.untyped_storage()).numpy()
