#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them.
# air_passengers needs RNNLAB_DATA to name the folder that holds air-passengers/air_passengers.csv.
set -eu
runs="${RUNS:-runs/002_forecasting}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    for name in one_step_large ten_step_lstm ten_step_gru one_step_lstm one_step_gru air_passengers; do
        run "$name" "$seed" "experiment=forecasting/$name"
    done
done
for name in ten_step_large one_step_simple_rnn one_step_rnn ten_step_rnn sequence_lstm sequence_gru; do run "$name" 0 "experiment=forecasting/$name"; done
