# Read by the run.sh of experiments, which set `runs`, the folder of their runs.
run() { # name seed words...: train once, into NAME-seedSEED; a finished run is not repeated
    dir="$runs/$1-seed$2"
    seed=$2
    shift 2
    [ -e "$dir/metrics.json" ] || rnnlab train "$@" "seed=$seed" "run_dir=$dir"
}
