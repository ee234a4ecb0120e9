#!/bin/sh
# Runs everything in tables.md, one after the other; finished runs are not repeated. RUNS names another folder for them.
# ETTh1.csv (https://github.com/zhouhaoyi/ETDataset) is ett/ETTh1.csv below RNNLAB_DATA; `tables.py "$RNNLAB_DATA"` writes
# the generated tables there.
set -eu
runs="${RUNS:-runs/010_forecasting}"
. "$(dirname "$0")/../run.sh"
for seed in 0 1 2; do
    for horizon in 24 48 96 168 336 720; do
        run "etth1_$horizon" "$seed" experiment=forecasting/etth1 "data.horizon=$horizon"
        for kind in nlinear dlinear; do
            run "etth1_${kind}_$horizon" "$seed" experiment=forecasting/etth1_linear "data.horizon=$horizon" \
                "model.kind=$kind"
        done
        run "etth1_ot_$horizon" "$seed" experiment=forecasting/etth1_ot "data.horizon=$horizon"
    done
    run sines_table "$seed" experiment=forecasting/sines_table
    run global "$seed" experiment=forecasting/global
    for series in 090 091 092 093 094 095 096 097 098 099; do
        run "alone_$series" "$seed" experiment=forecasting/global "data.path=alone/$series.csv" data.unseen=0 \
            data.batch_size=16 trainer.max_epochs=100
    done
done
