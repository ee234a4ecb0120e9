#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. The same runs as one
# command: see README.md. RUNS names another folder for them,
# TASKS one of the two tasks.
set -eu
runs="${RUNS:-runs/003_cells}"
cells="elman jordan lstm lstm_peephole lstm_cifg lstm_projection gru gru_reset_before layer_norm_rnn layer_norm_lstm
layer_norm_gru indrnn min_gru min_lstm lru narx state_space"
for seed in 0 1 2; do
    for task in ${TASKS:-ten_step addition}; do
        for cell in $cells; do
            dir="$runs/$task-$cell-seed$seed"
            [ -e "$dir/metrics.json" ] ||
                rnnlab train "experiment=cells/$task" "rnn=cells/$cell" "seed=$seed" "run_dir=$dir"
        done
    done
done
[ -z "${TASKS:-}" ] || exit 0 # one of several streams
for seed in 0 1 2; do
    dir="$runs/sequence_layer_norm_rnn-seed$seed"
    [ -e "$dir/metrics.json" ] ||
        rnnlab train experiment=cells/sequence_layer_norm_rnn "seed=$seed" "run_dir=$dir"
done
