#!/bin/sh
# Runs everything in the tables of classification.md, one after the other; finished runs are not repeated. RUNS names
# another folder for them. MNIST-1D needs the extra mnist1d, the digits the recordings
# (https://github.com/Jakobovski/free-spoken-digit-dataset), as fsdd/recordings.tar.gz below RNNLAB_DATA, and the extra
# speech, ECG5000 the file ecg5000/ECG5000_TRAIN.txt of the UCR archive there.
set -eu
# Each recording brought to mean 0 and deviation 1, copies not in noise, more noise while training, as it was at first.
by_deviation="data.range_db=null data.scale=series data.min_snr=60 data.max_snr=60 model.distortion.noise=0.3"
runs="${RUNS:-runs/009_signals}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run mnist1d "$seed" experiment=classification/mnist1d
    run digits "$seed" experiment=classification/digits
    run digits_by_deviation "$seed" experiment=classification/digits $by_deviation
    for fold in 0 1 2 3 4; do
        run "ecg5000_fold$fold" "$seed" experiment=classification/ecg5000 "data.fold=$fold"
    done
done
for fold in 0 1 2 3 4; do
    run "ecg5000_balanced_fold$fold" 0 experiment=classification/ecg5000 "data.fold=$fold" \
        task.class_weights=balanced task.monitor=macro_f1
done
run mnist1d_as_it_is 0 experiment=classification/mnist1d \
    model.distortion.roll=0 model.distortion.scale=0 model.distortion.tilt=0 model.distortion.noise=0
for cell in elman indrnn lstm lstm_peephole gru gru_reset_before layer_norm_lstm layer_norm_gru min_gru lru; do
    run "mnist1d_$cell" 0 experiment=classification/mnist1d "rnn=cells/$cell" rnn.hidden_size=32 trainer.max_epochs=15
done
for speaker in george jackson lucas nicolas theo yweweler; do
    run "digits_without_$speaker" 0 experiment=classification/digits "data.leave_out=$speaker" \
        trainer.max_epochs=6
done
run digits_without_george_15 0 experiment=classification/digits data.leave_out=george
for speaker in lucas nicolas; do
    run "digits_by_deviation_without_$speaker" 0 experiment=classification/digits "data.leave_out=$speaker" \
        trainer.max_epochs=6 $by_deviation
done
