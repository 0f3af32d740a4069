#!/bin/sh
# Lints manual pages with mandoc and groff; any remark is an error. A page is for readers at 80 columns.
set -eu

# From groff 1.23 on the width of a column ends at an apostrophe, and an example begins at column 7 or 14.
# shellcheck disable=SC2016 # what is awk's
RULES='
    /^\.Bl -column.*\047/ { print FILENAME ":" FNR ": an apostrophe in a width: " $0 }
    /^\.Bd -literal/ { most = /offset/ ? 66 : 73; next }
    /^\.Ed/ { most = 0 }
    (most && length > most) || /^\.Dl .{67}/ { print FILENAME ":" FNR ": folds at 80 columns: " $0 }
'
status=0

say() { # TEXT: a remark, if there is one
    [ -n "$1" ] || return 0
    printf '%s\n' "$1" >&2
    status=1
}

for page; do
    # Which other pages this machine has indexed, and whether ours are among them, says nothing of the page.
    say "$(mandoc -Tlint -Wall "$page" 2>&1 | grep -v -e 'outdated mandoc.db' -e 'referenced manual not found' || :)"
    say "$(awk "$RULES" "$page")"
    shown=$(mktemp)
    say "$(groff -mandoc -Tascii -ww -rLL=78n -P-cbou "$page" 2>&1 >"$shown")"
    say "$(awk -v page="$page" 'length > 80 { print page ": too wide for groff: " $0 }' "$shown")"
    rm -f "$shown"
done
exit $status
