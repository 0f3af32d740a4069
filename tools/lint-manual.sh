#!/bin/sh
# Lints manual pages with mandoc; any remark is an error.
set -eu

status=0
for page; do
    # Which other pages this machine has indexed, and whether ours are among them, says nothing of the page.
    remarks=$(mandoc -Tlint -Wall "$page" 2>&1 | grep -v -e 'outdated mandoc.db' -e 'not found: Xr cronlock' || :)
    if [ -n "$remarks" ]; then
        printf '%s\n' "$remarks" >&2
        status=1
    fi
done
exit $status
