#!/bin/sh
# A GRU on AirPassengers, the Nile and sunspots, one step ahead, three seeds each. RUNS names another folder
# for the runs; what is finished there is not repeated. AirPassengers lies below RNNLAB_DATA, the others are statsmodels'.
set -eu
here="$(dirname "$0")"
runs="${RUNS:-runs/010_forecasting}"
mkdir -p "$runs"
python "$here/statsmodels_files.py" "$runs"

of() { # name words...
    name="$1"
    shift
    rnnlab train -m experiment=forecasting/air_passengers "$@" seed=0,1,2 logger=csv callbacks=none \
        "hydra.sweep.dir=$runs/$name" resume=true
}

plain="data.transform=none data.difference=false data.lags=[] data.season=null data.time_column=null data.arima_seasonal_order=[0,0,0,0]"
of air_passengers_gru rnn=gru
of nile_gru $plain rnn=gru "data.path=$runs/nile.csv" data.column=volume data.val_size=10 data.test_size=50 \
    data.window=10 "data.arima_order=[0,1,1]" data.batch_size=8
of sunspots_gru $plain rnn=gru "data.path=$runs/sunspots.csv" data.column=SUNACTIVITY data.val_size=22 \
    data.test_size=59 data.window=22 data.arima_order=null
for name in air_passengers nile sunspots; do rnnlab report "$runs/${name}_gru" rows=runs > "$here/${name}_gru.csv"; done
