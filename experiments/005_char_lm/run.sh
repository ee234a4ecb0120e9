#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them. Shakespeare's text is downloaded, or found below the folder that RNNLAB_DATA names.
set -eu
runs="${RUNS:-runs/005_char_lm}"
run() { # experiment seed
    dir="$runs/$1-seed$2"
    [ -e "$dir/metrics.json" ] || rnnlab train "experiment=char_lm/$1" "seed=$2" "run_dir=$dir"
}
for seed in 0 1 2; do run stdlib "$seed"; done
run tinyshakespeare 0
run char_rnn 0
