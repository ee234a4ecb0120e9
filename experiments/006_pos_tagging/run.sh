#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them. The treebanks are downloaded, or found below the folder that RNNLAB_DATA names.
set -eu
runs="${RUNS:-runs/006_pos_tagging}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    for name in ${NAMES:-generated lines ewt ewt_words}; do run "$name" "$seed" "experiment=pos_tagging/$name"; done
done
[ -n "${NAMES:-}" ] || run ewt_crf 0 experiment=pos_tagging/ewt_crf
