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
from rnnlab.decoding.ctc import Transcript, best_path, best_path_in_parts, prefix_beam, prefix_beam_in_parts
from rnnlab.decoding.following import follow_text
from rnnlab.decoding.language_model import CharacterModel, LanguageModel
from rnnlab.decoding.listening import Span, listen, logits_in_parts
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
    "best_path_in_parts",
    "check_fits",
    "check_targets",
    "ctc_backward",
    "ctc_forward",
    "ctc_loss_reference",
    "follow_text",
    "greedy",
    "listen",
    "logits_in_parts",
    "needed_frames",
    "next_distribution",
    "occupancies",
    "prefix_beam",
    "prefix_beam_in_parts",
    "prime",
    "sample",
    "sample_translations",
    "select_rows",
    "translate",
    "viterbi",
]
