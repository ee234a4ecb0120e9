"""Write the sentences that `experiment=ctc/speech data.texts=TEXTS` trains on, as they are to be written, a line each.

python experiments/008_ctc_speech/sentences.py TEXTS OUT.txt
"""

import sys
from pathlib import Path

from rnnlab.data import SpokenData
from rnnlab.data.utterances import plain

sentences = SpokenData(sys.argv[1]).sentences["train"]
Path(sys.argv[2]).write_text("".join(f"{plain(sentence)}\n" for sentence in sentences), encoding="utf-8")
