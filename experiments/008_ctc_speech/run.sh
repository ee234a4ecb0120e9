#!/bin/sh
# Runs everything in this experiment's tables, one after the other; finished runs are not repeated. RUNS names another
# folder for them. Digits need the recordings (https://github.com/Jakobovski/free-spoken-digit-dataset), as
# fsdd/recordings.tar.gz below RNNLAB_DATA, and the extra speech.
set -eu
runs="${RUNS:-runs/008_ctc_speech}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run morse "$seed" experiment=ctc/morse
    run digits "$seed" experiment=ctc/digits
done
run attention 0 experiment=seq2seq/digits
python "$(dirname "$0")/longer.py" "$runs/longer.csv" "$runs/digits-seed0" "$runs/attention-seed0"
run digits_viterbi 0 experiment=ctc/digits task.loss=viterbi
run digits_drawn 0 experiment=ctc/digits data.ascending=0
run digits12k 0 experiment=ctc/digits data.num_train=12000 model.band_dropout=0.15 model.dropout=0.3 \
    trainer.max_epochs=8
for speaker in george jackson lucas nicolas theo yweweler; do
    run "digits_without_$speaker" 0 experiment=ctc/digits "data.leave_out=$speaker"
done
# Speech needs espeak-ng: apt-get install espeak-ng.
run speech 0 experiment=ctc/speech
run speech 1 experiment=ctc/speech
run speech 2 experiment=ctc/speech
# LISTS is the folder that real.py wrote.
if [ -n "${LISTS:-}" ]; then
    run speech_telephone 0 experiment=ctc/speech data.high=3800
    run speech_person 0 experiment=ctc/speech data.high=3800 "data.recordings=$LISTS/person.tsv"
fi
run words 0 experiment=speech/words
run words_alone 0 experiment=speech/words model.context=false
for seed in 0 1 2; do
    run words_deep "$seed" experiment=speech/words_deep
    run words_deep_alone "$seed" experiment=speech/words_deep model.context=false
done
