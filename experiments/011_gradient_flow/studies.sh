#!/bin/sh
# Runs all studies: pictures of seed 0 into figures/, their numbers and tables into studies/, and a line for each study
# and seed with seconds, exit code and verdict into studies.csv. SEEDS names other seeds.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT
mkdir -p "$here/figures" "$here/studies"
echo "study,seed,seconds,exit_code,verdict" > "$here/studies.csv"
for seed in ${SEEDS:-0 1 2}; do
    for name in $(rnnlab study | cut -d ' ' -f 1); do
        start=$(date +%s) code=0
        rnnlab study "$name" "out=$work" "seed=$seed" > "$work/$name.txt" || code=$?
        verdict="$(tail -n 1 "$work/$name.txt" | sed 's/^verdict: //; s/"/""/g')"
        echo "$name,$seed,$(($(date +%s) - start)),$code,\"$verdict\"" >> "$here/studies.csv"
        if [ "$seed" = 0 ]; then
            mv "$work/$name.png" "$here/figures/"
            mv "$work/$name.csv" "$work/$name.txt" "$here/studies/"
        fi
    done
done
