#!/bin/sh
# Every rival on the two sines, ten steps and one step ahead, ten epochs each: `two_sines.sh 0,1,2` for three seeds. RUNS
# names another folder for the runs; what is finished there is not repeated.
set -eu
runs="${RUNS:-runs/010_forecasting}"
seeds="${1:-0,1,2}"

of() { # name words...
    name="$1"
    shift
    rnnlab train -m "$@" trainer.max_epochs=10 "seed=$seeds" logger=csv "hydra.sweep.dir=$runs/$name/seeds_$seeds" resume=true
}

horizons="data.horizon=10,1"
for kind in ar nlinear dlinear; do of "$kind" experiment=forecasting/ten_step_linear "model.kind=$kind" $horizons; done
of narx_series_parallel experiment=forecasting/ten_step_narx $horizons  # one step ahead both forms are one
of narx_parallel experiment=forecasting/ten_step_narx model.form=parallel
of time_delay experiment=forecasting/ten_step_rnn rnn=time_delay rnn.hidden_size=66 rnn.taps=50 rnn.num_layers=1 $horizons
of tcn experiment=forecasting/ten_step_rnn rnn=tcn rnn.hidden_size=13 rnn.num_layers=4 $horizons
of elman_2 experiment=forecasting/ten_step_rnn rnn.hidden_size=35 $horizons
of gru_2 experiment=forecasting/ten_step_gru rnn.hidden_size=20 $horizons
of lstm_2 experiment=forecasting/ten_step_lstm rnn.hidden_size=17 $horizons
# One layer, with an error at every step; "cut": no gradient goes back over a step.
cut=+rnn.clip_grad_step=1e-30
elman="experiment=forecasting/sequence_gru rnn=cells/elman rnn.num_layers=1 rnn.hidden_size=58"
jordan="experiment=forecasting/sequence_gru rnn=cells/jordan rnn.num_layers=1 rnn.hidden_size=174 model.head=false"
fed='+rnn.cell.output_size=${data.horizon}'
of elman $elman $horizons
of elman_cut $elman $cut $horizons
of jordan $jordan "$fed" $horizons
of jordan_cut $jordan "$fed" $cut $horizons
