#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated.
# air_passengers needs RNNLAB_DATA to name the folder that holds air-passengers/air_passengers.csv.
set -eu
run() { # experiment seed
    dir="runs/002_forecasting/$1-seed$2"
    [ -e "$dir/metrics.json" ] || rnnlab train "experiment=forecasting/$1" "seed=$2" "run_dir=$dir"
}
for seed in 0 1 2; do
    for name in one_step_large ten_step_lstm ten_step_gru one_step_lstm one_step_gru air_passengers; do
        run "$name" "$seed"
    done
done
for name in ten_step_large one_step_simple_rnn one_step_rnn ten_step_rnn sequence_lstm sequence_gru; do run "$name" 0; done
