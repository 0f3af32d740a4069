#!/bin/sh
# Runs tests under supported Pythons of this machine, each in a virtual environment of its own.
#     test-pythons.sh all|ends PYTEST-ARGUMENT...    every one that is found, or the oldest and the newest
set -eu

which=$1
shift
found=$("${PYTHON:-python3}" packaging/interpreters.py)
case $which in
all) ;;
ends) found=$(printf '%s\n' "$found" | sed -n '1p; 2,${$p;}') ;;
*)
    echo "test-pythons.sh: $which: write all or ends" >&2
    exit 64
    ;;
esac
case $found in
"3.9 "*) ;;
*) echo "test-pythons.sh: no Python 3.9 on this machine: the oldest found is ${found%% *}" >&2 ;;
esac

printf '%s\n' "$found" | while read -r version python; do
    venv=.venv-$version
    echo "== Python $version: $python"
    if ! [ -e "$venv/installed" ] || [ -n "$(find pyproject.toml -newer "$venv/installed")" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[test]'
        touch "$venv/installed"
    fi
    "$venv/bin/python" -m pytest -q "$@" </dev/null || exit 1
done
