"""From what a model expects to what it says: sampling, beam search, CTC and Viterbi."""

from rnnlab.decoding.alignment import (
    BLANK,
    align,
    check_fits,
    check_targets,
    ctc_backward,
    ctc_forward,
    ctc_loss_reference,
    needed_frames,
    occupancies,
)
from rnnlab.decoding.beam import Hypothesis, beam_search
from rnnlab.decoding.ctc import Transcript, best_path, prefix_beam
from rnnlab.decoding.language_model import CharacterModel, LanguageModel
from rnnlab.decoding.listening import Span, listen
from rnnlab.decoding.sampling import FINISHED, next_distribution, prime, sample
from rnnlab.decoding.state import select_rows
from rnnlab.decoding.translation import greedy, sample_translations, translate
from rnnlab.decoding.viterbi import viterbi

__all__ = [
    "BLANK",
    "FINISHED",
    "CharacterModel",
    "Hypothesis",
    "LanguageModel",
    "Span",
    "Transcript",
    "align",
    "beam_search",
    "best_path",
    "check_fits",
    "check_targets",
    "ctc_backward",
    "ctc_forward",
    "ctc_loss_reference",
    "greedy",
    "listen",
    "needed_frames",
    "next_distribution",
    "occupancies",
    "prefix_beam",
    "prime",
    "sample",
    "sample_translations",
    "select_rows",
    "translate",
    "viterbi",
]
