#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them. The treebanks are downloaded, or found below the folder that RNNLAB_DATA names.
set -eu
runs="${RUNS:-runs/006_pos_tagging}"
run() { # experiment seed
    dir="$runs/$1-seed$2"
    [ -e "$dir/metrics.json" ] || rnnlab train "experiment=pos_tagging/$1" "seed=$2" "run_dir=$dir"
}
for seed in 0 1 2; do
    for name in ${NAMES:-generated lines ewt ewt_words}; do run "$name" "$seed"; done
done
[ -n "${NAMES:-}" ] || run ewt_crf 0
