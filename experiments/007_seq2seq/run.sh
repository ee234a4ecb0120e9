#!/bin/sh
# Runs everything in this experiment's table, one after the other; finished runs are not repeated. RUNS names another
# folder for them. Pronunciations need the extra g2p, the treebank is downloaded or found below RNNLAB_DATA. PRECISION is
# for pronunciations: bf16-mixed where the CPU has AMX, 32-true elsewhere.
set -eu
runs="${RUNS:-runs/007_seq2seq}"
. "$(dirname "$0")/../run.sh"
run dates_additive 0 experiment=seq2seq/dates model.attention=additive
for seed in 0 1 2; do
    run dates "$seed" experiment=seq2seq/dates
    run dates_none "$seed" experiment=seq2seq/dates model.attention=none
    run dates_transformer "$seed" experiment=seq2seq/dates_transformer
    run lemma "$seed" experiment=seq2seq/lemma
done
small="experiment=seq2seq/lemma rnn.hidden_size=128 model.embedding_size=64 data.weight_power=0.5 trainer.max_epochs=10"
run try_plain 0 $small model.window=null data.invented=0
run try_invented 0 $small model.window=null
run try_window 0 $small
half="trainer.precision=${PRECISION:-bf16-mixed}"
run g2p 0 experiment=seq2seq/g2p "$half"
run g2p_e4 0 experiment=seq2seq/g2p trainer.max_epochs=4 "$half"
run g2p_additive_e4 0 experiment=seq2seq/g2p model.attention=additive trainer.max_epochs=4 "$half"
run g2p_none_e4 0 experiment=seq2seq/g2p_none "$half"
run g2p_transformer_e4 0 experiment=seq2seq/g2p_transformer "$half"
