#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated.
set -eu
run() { # experiment seed
    dir="runs/001_addition/$1-seed$2"
    [ -e "$dir/metrics.json" ] || rnnlab train "experiment=addition/$1" "seed=$2" "run_dir=$dir"
}
for seed in 0 1 2; do
    for cell in lstm gru rnn; do run "$cell" "$seed"; done
done
run lstm_10digits 0
run lstm_5digits 0
