#!/bin/sh
# Runs everything in README.md, one after the other; finished runs are not repeated. RUNS names another folder for them.
# Images are Debian's dataset-fashion-mnist: RNNLAB_DATA=/usr/share/datasets, or data.path= with a folder of such files.
set -eu
runs="${RUNS:-runs/012_memory}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run adding_gru "$seed" experiment=memory/adding
    run copy_lru "$seed" experiment=memory/copy rnn=cells/lru rnn.hidden_size=128 \
        +rnn.cell.r_min=0.99 +rnn.cell.r_max=0.9999 \
        data.num_train=10000 trainer.max_epochs=6 optim.lr=3e-3
done
for seed in 0 1 2 3 4; do
    for layer in rnn gru lstm; do
        run "binary_addition_$layer" "$seed" experiment=memory/binary_addition "rnn=$layer"
    done
    run binary_addition_lstm_fast "$seed" experiment=memory/binary_addition rnn=lstm optim.lr=0.1
done
for language in anbn anbncn dyck2 parity; do
    for layer in lstm gru rnn cells/min_gru; do
        for seed in 0 1 2; do
            run "languages_${language}_${layer##*/}" "$seed" experiment=memory/languages "rnn=$layer" \
                rnn.hidden_size=16 "data.language=$language"
        done
    done
done
run images 0 experiment=memory/images
run images_permuted 0 experiment=memory/images data.permute_seed=0
for seed in 0 1 2; do
    run copy_lstm_chrono "$seed" experiment=memory/copy rnn=lstm rnn.hidden_size=128 "model.init={chrono:520}" \
        data.num_train=2500 trainer.max_epochs=14 optim.lr=3e-3
done
# The same half hour of training for each, with a core to itself.
for layer in "gru 64" "lstm 128"; do
    set -- $layer
    run "images_$1_30" 0 experiment=memory/images "rnn=$1" "rnn.hidden_size=$2" schedule=constant \
        +trainer.limit_train_batches=100 trainer.max_epochs=200 +trainer.max_time=00:00:30:00
done
