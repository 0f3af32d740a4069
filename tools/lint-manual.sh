#!/bin/sh
# Lints manual pages with mandoc and groff; any remark is an error. A page is for readers at 80 columns.
set -eu

LENGTH=78
# A line of a page that is fit for every groff: from 1.23 on the width of a column ends at an apostrophe.
APOSTROPHE='^\.Bl -column.*'"'"
status=0

say() { # TEXT: a remark, if there is one
    [ -n "$1" ] || return 0
    printf '%s\n' "$1" >&2
    status=1
}

for page; do
    # Which other pages this machine has indexed, and whether ours are among them, says nothing of the page.
    say "$(mandoc -Tlint -Wall "$page" 2>&1 | grep -v -e 'outdated mandoc.db' -e 'referenced manual not found' || :)"
    say "$(grep -n "$APOSTROPHE" "$page" | sed "s|^|$page:|; s|\$| (an apostrophe in a width)|")"
    shown=$(mktemp)
    say "$(groff -mandoc -Tascii -ww -rLL=${LENGTH}n -P-cbou "$page" 2>&1 >"$shown")"
    say "$(awk -v page="$page" -v most="$LENGTH" 'length > most { print page ": too wide for groff: " $0 }' "$shown")"
    rm -f "$shown"
done
exit $status
