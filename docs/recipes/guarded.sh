#!/bin/sh
# A script that guards a part of itself: what stands before and after runs on every machine.
set -eu

if [ "${1:-}" != --guarded ]; then
    echo "before, on every machine"
    status=0
    # The script calls itself, so that the part has functions, variables and comments of its own.
    # 100 is a status that the part does not use.
    cronlock run --key nightly --skip-status 100 -- "$0" --guarded || status=$?
    case $status in
    0) echo "it ran here" ;;
    100) echo "it ran elsewhere, or still runs" ;;
    69) echo "the backend did not answer: nothing ran" >&2 ;;
    75) echo "the lease was lost: it was stopped half-way" >&2 ;;
    64 | 70 | 78) echo "cronlock is set up wrongly: nothing ran" >&2 ;;
    124) echo "it took too long and was stopped" >&2 ;;
    *) echo "it ran here and failed with status $status" >&2 ;;
    esac
    echo "after, on every machine"
    [ "$status" = 100 ] || exit "$status"
    exit 0
fi

echo "on one machine, with fence $CRONLOCK_FENCE"
