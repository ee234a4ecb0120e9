#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them. Shakespeare's text is downloaded, or found below the folder that RNNLAB_DATA names.
set -eu
runs="${RUNS:-runs/005_char_lm}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do run stdlib "$seed" experiment=char_lm/stdlib; done
run tinyshakespeare 0 experiment=char_lm/tinyshakespeare
run char_rnn 0 experiment=char_lm/char_rnn
