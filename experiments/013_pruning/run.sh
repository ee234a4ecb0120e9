#!/bin/sh
# Runs everything in README.md, one after the other; finished runs are not repeated. RUNS names another folder for them.
set -eu
runs="${RUNS:-runs/013_pruning}"
. "$(dirname "$0")/../run.sh"
pruned() { # name which seed words...: of a task's experiment, prune weights of these names from 50 to 98%
    name="$1_$2" seed=$3 callbacks=$4
    case $2 in
        input) names="[weight_ih]" ;;
        recurrent) names="[weight_hh]" ;;
        both) names="[weight_ih,weight_hh]" ;;
    esac
    shift 4
    run "$name" "$seed" "callbacks=[$callbacks,prune]" schedule=constant "+callbacks.prune.names=$names" \
        "callbacks.prune.amounts=[0.5,0.6,0.7,0.8,0.9,0.95,0.98]" "$@"
}
for which in both input recurrent; do
    pruned char_lm "$which" 0 char_lm experiment=char_lm/stdlib optim.lr=1e-3 \
        callbacks.prune.start=6 callbacks.prune.every_epochs=1 trainer.max_epochs=13
    for seed in 0 1 2; do
        pruned tagger "$which" "$seed" tagging experiment=pos_tagging/generated optim.lr=1e-3 \
            callbacks.prune.start=15 callbacks.prune.every_epochs=3 trainer.max_epochs=36
    done
done
# As long a training, but early to 80% and no further: eight epochs of retraining.
pruned char_lm_early both 0 char_lm experiment=char_lm/stdlib optim.lr=1e-3 \
    "callbacks.prune.amounts=[0.5,0.7,0.8]" callbacks.prune.start=3 callbacks.prune.every_epochs=1 trainer.max_epochs=13
# As many epochs at the same rate, and nothing pruned.
run char_lm_none 0 experiment=char_lm/stdlib schedule=constant optim.lr=1e-3 trainer.max_epochs=13
for seed in 0 1 2; do
    run tagger_none "$seed" experiment=pos_tagging/generated schedule=constant optim.lr=1e-3 trainer.max_epochs=36
done
