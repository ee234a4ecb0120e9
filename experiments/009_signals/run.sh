#!/bin/sh
# Runs everything in the tables of electrocardiograms, one after the other; finished runs are not repeated. RUNS names
# another folder for them.
set -eu
runs="${RUNS:-runs/009_signals}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run delineation "$seed" experiment=ecg/delineation
    run convolution "$seed" experiment=ecg/convolution
    # The claim of the lecture: hearts of training beat 60 to 90 times a minute.
    run slow "$seed" experiment=ecg/delineation data.min_rate=60 data.max_rate=90 data.num_train=2500
    run slow_convolution "$seed" experiment=ecg/convolution data.min_rate=60 data.max_rate=90 data.num_train=2500
done
run onwards 0 experiment=ecg/delineation rnn.bidirectional=false rnn.hidden_size=64 model.delay_ms=400
for seed in 0 1 2; do
    run onwards_longer "$seed" experiment=ecg/delineation rnn.bidirectional=false rnn.hidden_size=96 model.delay_ms=240 \
        trainer.max_epochs=24
done
