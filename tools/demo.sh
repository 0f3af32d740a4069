#!/bin/sh
# Starts three runs of one key at once, on the file backend: one runs, two skip and say so.
#     demo.sh PYTHON
set -eu

python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CRONLOCK_STATE_DIR="$folder"
unset CRONLOCK_BACKEND CRONLOCK_CONFIG
CRONLOCK_BACKEND=file://$folder
export CRONLOCK_BACKEND

# A skip prints a line only if standard error is a terminal.
look=
[ -t 2 ] || look=--verbose

run() {
    # shellcheck disable=SC2086 # empty or one word
    "$python" -m cronlock run $look --key demo -- sh -c "echo 'racer $1: I have the lease, fence '\$CRONLOCK_FENCE; sleep 1"
}

echo '$ cronlock run --key demo -- sh -c "echo ...; sleep 1"     (three at once)'
run one &
run two &
run three &
wait
echo 'One ran, two skipped. For many machines, set CRONLOCK_BACKEND=redis://HOST: see README.md.'
