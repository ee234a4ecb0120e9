#!/bin/sh
# All cells, and where it matters all initialisations, on short sequences and in few updates; finished runs are not repeated.
# RUNS names another folder for them.
set -eu
runs="${RUNS:-runs/012_memory}"
. "$(dirname "$0")/../run.sh"
adding="experiment=memory/adding data.length=100 data.num_train=1000 data.growing_epochs=30 trainer.max_epochs=60"
copying="experiment=memory/copy data.length=50 data.num_train=5000 trainer.max_epochs=15 optim.lr=5e-3"
# Forty values that are read one by one, and the read-out at the last.
curves="experiment=classification/mnist1d rnn.num_layers=1 rnn.bidirectional=false model.pooling=last trainer.max_epochs=60"
all() { # name init words...: 64 units on each task, 1,200, 1,500 and 2,220 updates; `init` with chrono for 100 steps
    name=$1 init=$2
    shift 2
    # The tasks' words are to be split. Chrono is for as long as what is to be kept, at most.
    run "short_adding_$name" 0 $adding rnn.hidden_size=64 "$@" "++model.init=$init"
    run "short_adding_$name" 1 $adding rnn.hidden_size=64 "$@" "++model.init=$init"
    run "short_copy_$name" 0 $copying rnn.hidden_size=64 "$@" "++model.init=$init"
    case $init in *chrono*) init="${init%chrono*}chrono:40}" ;; esac
    run "mnist1d_$name" 0 $curves rnn.hidden_size=64 "$@" "++model.init=$init"
}
start() { # name options words...: with input and biases of one start, so that recurrent weights and chrono alone differ
    name=$1 options=$2
    shift 2
    all "$name" "{input:glorot,bias:zeros,$options}" "$@"
}
for layer in lstm gru rnn; do
    start "${layer}_orthogonal" "recurrent:orthogonal" "rnn=$layer"
    start "${layer}_identity" "recurrent:identity" "rnn=$layer"
done
start rnn_relu_identity "recurrent:identity" rnn=rnn rnn.nonlinearity=relu
for layer in lstm gru cells/lstm_peephole cells/lstm_cifg cells/layer_norm_lstm cells/min_lstm cells/min_gru; do
    start "${layer##*/}_chrono" "recurrent:orthogonal,chrono:100" "rnn=$layer"
done
all lru null rnn=cells/lru +rnn.cell.r_min=0.9 +rnn.cell.r_max=0.999
all lru_selective null rnn=cells/lru_selective +rnn.cell.r_min=0.9 +rnn.cell.r_max=0.999
for layer in lstm_peephole lstm_cifg lstm_projection gru_reset_before layer_norm_lstm layer_norm_gru layer_norm_rnn \
    min_gru min_lstm indrnn jordan narx state_space; do
    start "${layer}_orthogonal" "recurrent:orthogonal" "rnn=cells/$layer"
done
