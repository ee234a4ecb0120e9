#!/bin/sh
# The runs of generation.md, one after the other; finished runs are not repeated. RUNS names another folder for them.
set -eu
runs="${RUNS:-runs/009_signals}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run numbers "$seed" experiment=generation/numbers
    run wave "$seed" experiment=generation/wave
done
