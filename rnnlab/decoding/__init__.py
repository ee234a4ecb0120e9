"""From what a model expects to what it says: sampling and beam search."""

from rnnlab.decoding.beam import Hypothesis, beam_search
from rnnlab.decoding.sampling import FINISHED, next_distribution, prime, sample
from rnnlab.decoding.state import select_rows
from rnnlab.decoding.viterbi import viterbi

__all__ = [
    "FINISHED",
    "Hypothesis",
    "beam_search",
    "next_distribution",
    "prime",
    "sample",
    "select_rows",
    "viterbi",
]
