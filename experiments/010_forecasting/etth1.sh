#!/bin/sh
# Runs everything in the tables of etth1.md, one after the other; finished runs are not repeated. RUNS names another folder
# for them. The file is ETTh1.csv (https://github.com/zhouhaoyi/ETDataset), as ett/ETTh1.csv below RNNLAB_DATA.
set -eu
runs="${RUNS:-runs/010_forecasting}"
. "$(dirname "$0")/../run.sh"
for horizon in 24 48 96 168 336 720; do
    for seed in 0 1 2; do
        run "etth1_$horizon" "$seed" experiment=forecasting/etth1 "data.horizon=$horizon"
        run "etth1_ot_$horizon" "$seed" experiment=forecasting/etth1_ot "data.horizon=$horizon"
    done
done
