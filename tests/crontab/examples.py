"""Lines of all kinds as people write them; each command prints its input."""

from __future__ import annotations

#: Each line is wrapped and does the same before and after.
LINES = (
    r"""
# --- plain words
* * * * * show
*/5 * * * * show one two
0 3 * * * show 'a b' "c d" e'f'"g"
0,30 8-18 * * 1-5	show tabs	between	words
  15 4 1,15 * 5   show   many   blanks(BLANKS)
5 0 * * * show --option=value -x --name="two words" path/to:other,list+more
7-59/10 * * * * /usr/bin/printf %s\n text
@daily show daily
@hourly show hourly
@weekly show weekly
@monthly show monthly
@yearly show yearly
@annually show annually
@midnight show midnight
0 0 * JAN-mar Mon,wed show names
0 0 29 2 * show leap
0 12 * * 7 show sunday
07 09 * * * show leading zeros
59 23 31 12 0-6/2 show steps
0 0 31 2 * show never
*/100 * * * * show once
5-5/2 * * * * show range
0 4 8-14 * * show 'it is'"'"'nt'
0 4 * * * show ""
0 4 * * * show '' x
0 4 * * * show a=b
0 4 * * * bare script
0 4 * * * nosuchprogram with arguments
0 4 * * * show grüße "für" 'dich'
0 4 * * * show (E9)t(E9)
# --- percent signs
0 22 * * 1-5 take%Joe,%%Where are your kids?%
0 22 * * * take%
0 22 * * * take %one line
0 22 * * * take%with 'quotes" and \ and \\ and \%
0 22 * * * show 'no stdin \%' %x
0 22 * * * show date +\%F '+\%T'
0 22 * * * show $(date +\%Y | wc -c)
0 22 * * * show a\\%b%c
0 22 * * * show a\\\%b
0 22 * * * cat - a.txt%first%second
0 22 * * * { take; show after; }%in braces
0 22 * * * take | cat && show then%through a pipe
# --- shell syntax
*/10 * * * * show a && show b
*/10 * * * * show a; show b
*/10 * * * * false || show b
*/10 * * * * show a | cat
*/10 * * * * show a > out 2>&1; cat out
*/10 * * * * show a >>/dev/null 2>&1
*/10 * * * * take < a.txt
*/10 * * * * show *.txt
*/10 * * * * show [ab].txt ?.txt
*/10 * * * * show $HOME/sub "$HOME" '$HOME' | sed 's/.*sub//'
*/10 * * * * show $X "$X" '$X'
*/10 * * * * show ~ | wc -l
*/10 * * * * show `show inner` $(show 'in ner')
*/10 * * * * show $((1 + 2 \% 2))
*/10 * * * * show it\'s \"quoted\" back\\slash a\ b
*/10 * * * * show 'single' it\'s 'x'\''y'
*/10 * * * * show "double \"quotes\" \$X \\"
*/10 * * * * X=1 show "$X"; show "$X"
*/10 * * * * X=1
*/10 * * * * cd sub && show *.txt
*/10 * * * * cd sub; cat c.txt
*/10 * * * * (cd sub && show *.txt); show *.txt
*/10 * * * * { show a; show b; } | cat
*/10 * * * * if [ -f a.txt ]; then show yes; else show no; fi
*/10 * * * * for f in *.txt; do show "$f"; done
*/10 * * * * while read -r line; do show "$line"; done%x%y z
*/10 * * * * case $X in x*) show x;; *) show other;; esac
*/10 * * * * ! show a
*/10 * * * * [ -x /bin/sh ] && show there
*/10 * * * * test -f nothing || show gone
*/10 * * * * echo 'a\\nb'; echo "x\ty"
*/10 * * * * printf '\%s\\n' a b
*/10 * * * * echo -n a
*/10 * * * * true
*/10 * * * * exit 3
*/10 * * * * sh -c 'show inner "$0"' zero
*/10 * * * * exec show replaced
*/10 * * * * eval 'show a; show b'
*/10 * * * * show a # a comment
*/10 * * * * show a#b '#c' "#d"
*/10 * * * * #nothing
*/10 * * * * show ; ; syntax error
*/10 * * * * show 'unfinished
*/10 * * * * show trailing backslash \
*/10 * * * * show {a,b}
*/10 * * * * show a& wait
*/10 * * * * (show a; exit 4) || (show b; exit 5)
*/10 * * * * show $# $0
*/10 * * * * echo "$SHELL"
*/10 * * * * f() { show "f:$@"; }; f 1 '2 3'
*/10 * * * * show "$(cat <a.txt)" 1>&2
*/10 * * * * trap 'show bye' EXIT; show hello
*/10 * * * * sh -c 'kill -TERM $$'
*/10 * * * * env FOO=bar sh -c 'show $FOO'
*/10 * * * * nice -n 5 show nice
*/10 * * * * show with a return(CR)
*/10 * * * * show a && show return(CR)
""".replace("(E9)", "\udce9")
    .replace("(CR)", "\r")
    .replace("(BLANKS)", " \t ")
)

#: Under bash only.
BASH_LINES = r"""
0 5 * * * show {a,b}{1..3}
0 5 * * * show $'tab\tand\\n' $"plain"
0 5 * * * diff <(show a) <(show a) && show same
0 5 * * * [[ abc == a* ]] && show match
0 5 * * * show a |& cat
0 5 * * * show a &> out; cat out
0 5 * * * take <<< "here $X"
0 5 * * * a=(1 2 3); show "${a[@]}"
0 5 * * * shopt -s extglob; show !(a).txt
0 5 * * * set -o pipefail; false | true
0 5 * * * source /dev/null && show sourced
0 5 * * * show plain words
0 5 * * * { time true; } 2>/dev/null; show timed
0 5 * * * pushd sub >/dev/null && show *.txt
0 5 * * * show ${X^^} ${X\%x} ${X//x/\\\\}
"""
