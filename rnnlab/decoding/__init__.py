"""From what a model expects to what it says: sampling and beam search."""

from rnnlab.decoding.beam import Hypothesis, beam_search
from rnnlab.decoding.sampling import FINISHED, next_distribution, prime, sample
from rnnlab.decoding.state import select_rows
from rnnlab.decoding.translation import greedy, sample_translations, translate
from rnnlab.decoding.viterbi import viterbi

__all__ = [
    "FINISHED",
    "Hypothesis",
    "beam_search",
    "greedy",
    "next_distribution",
    "prime",
    "sample",
    "sample_translations",
    "select_rows",
    "translate",
    "viterbi",
]
