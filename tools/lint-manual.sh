#!/bin/sh
# Lints manual pages with mandoc and groff. Any remark is an error, and so is a line over 80 columns.
set -eu

# groff 1.23 and later end the width of a column at an apostrophe, and indent examples to column 7 or 14.
# shellcheck disable=SC2016 # awk expands these
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
    # Remarks about the index of manual pages on this machine do not concern the page.
    say "$(mandoc -Tlint -Wall "$page" 2>&1 | grep -v -e 'outdated mandoc.db' -e 'referenced manual not found' || :)"
    say "$(awk "$RULES" "$page")"
    shown=$(mktemp)
    say "$(groff -mandoc -Tascii -ww -rLL=78n -P-cbou "$page" 2>&1 >"$shown")"
    say "$(awk -v page="$page" 'length > 80 { print page ": too wide for groff: " $0 }' "$shown")"
    rm -f "$shown"
done
exit $status
