#!/bin/sh
# Runs `make test` several times, one after the other, up to the first that fails; each one's output is kept.
#     test-again.sh RUNS DIRECTORY
set -eu

runs=$1
directory=$2
case $runs in
*[!0-9]* | '' | 0*)
    echo "test-again.sh: RUNS=$runs: write a number from 1" >&2
    exit 64
    ;;
esac
mkdir -p "$directory"
rm -f "$directory"/run-*.log
run=0
while [ "$run" -lt "$runs" ]; do
    run=$((run + 1))
    log=$directory/run-$run.log
    began=$(date +%s)
    status=0
    make --no-print-directory test >"$log" 2>&1 </dev/null || status=$?
    took=$(($(date +%s) - began))
    said=$(sed -n 's/^=* *\([0-9].* passed.*\) in [0-9.]*s.*/\1/p' "$log" | tail -n 1)
    echo "run $run: status $status, $took s, ${said:-no result}"
    if [ "$status" -ne 0 ]; then
        grep -E '^(FAILED|ERROR) |^make: ' "$log" || :
        echo "see $log"
        exit "$status"
    fi
done
