#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them.
set -eu
runs="${RUNS:-runs/001_addition}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    for cell in lstm gru rnn; do run "$cell" "$seed" "experiment=addition/$cell"; done
done
run lstm_10digits 0 experiment=addition/lstm_10digits
run lstm_5digits 0 experiment=addition/lstm_5digits
