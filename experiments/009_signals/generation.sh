#!/bin/sh
# The runs of generation.md, one after the other; finished runs are not repeated. RUNS names another folder for them.
set -eu
runs="${RUNS:-runs/009_signals}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    run numbers "$seed" experiment=generation/numbers
    run wave "$seed" experiment=generation/wave
    run labelled "$seed" experiment=char_lm/labelled
    run labelled_each_step "$seed" experiment=char_lm/labelled model.condition=each_step
    run unlabelled "$seed" experiment=char_lm/labelled model.condition=null
done
# What of the wave's generator it takes.
run wave_fixed 0 experiment=generation/wave rnn=cells/lru
run wave_without_products 0 experiment=generation/wave model.code_products=false
