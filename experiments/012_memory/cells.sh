#!/bin/sh
# All cells, and where it matters all initialisations, on short sequences and in few updates, one seed; finished runs are not
# repeated. RUNS names another folder for them.
set -eu
runs="${RUNS:-runs/012_memory}"
. "$(dirname "$0")/../run.sh"
adding="experiment=memory/adding data.length=100 data.num_train=1000 data.growing_epochs=30 trainer.max_epochs=60"
copying="experiment=memory/copy data.length=50 data.num_train=5000 trainer.max_epochs=15 optim.lr=5e-3"
both() { # name words...: 64 units on both tasks, 1,200 and 1,500 updates of 50 sequences
    name=$1
    shift
    # The tasks' words are to be split.
    run "short_adding_$name" 0 $adding rnn.hidden_size=64 "$@"
    run "short_copy_$name" 0 $copying rnn.hidden_size=64 "$@"
}
start() { # name options words...: with input and biases of one start, so that recurrent weights and chrono alone differ
    name=$1 options=$2
    shift 2
    both "$name" "++model.init={input:glorot,bias:zeros,$options}" "$@"
}
for layer in lstm gru rnn; do
    start "${layer}_orthogonal" "recurrent:orthogonal" "rnn=$layer"
    start "${layer}_identity" "recurrent:identity" "rnn=$layer"
done
start rnn_relu_identity "recurrent:identity" rnn=rnn rnn.nonlinearity=relu
# Chrono: as long as what is to be kept, at most. Adding needs 100 steps, copying 60.
for layer in lstm gru cells/lstm_peephole cells/lstm_cifg cells/layer_norm_lstm cells/min_lstm cells/min_gru; do
    start "${layer##*/}_chrono" "recurrent:orthogonal,chrono:100" "rnn=$layer"
done
both lru ++model.init=null rnn=cells/lru +rnn.cell.r_min=0.9 +rnn.cell.r_max=0.999
both lru_selective ++model.init=null rnn=cells/lru_selective +rnn.cell.r_min=0.9 +rnn.cell.r_max=0.999
for layer in lstm_peephole lstm_cifg lstm_projection gru_reset_before layer_norm_lstm layer_norm_gru layer_norm_rnn \
    min_gru min_lstm indrnn jordan narx state_space; do
    start "${layer}_orthogonal" "recurrent:orthogonal" "rnn=cells/$layer"
done
# Forty values that are read one by one, and the read-out at the last.
for layer in gru lstm rnn cells/lru cells/min_gru cells/indrnn; do
    run "mnist1d_${layer##*/}" 0 experiment=classification/mnist1d "rnn=$layer" rnn.hidden_size=64 rnn.num_layers=1 \
        rnn.bidirectional=false model.pooling=last
done
