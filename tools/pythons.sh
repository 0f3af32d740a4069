#!/bin/sh
# Runs tests under the oldest and the newest supported Python on this machine, each in a virtual
# environment of its own.
#     pythons.sh PYTEST-ARGUMENT...
set -eu

find_python() { # MINOR: print a working python3.MINOR, if there is one
    for candidate in "python3.$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$1".*/bin/python; do
        if "$candidate" -c "import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, $1))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

oldest=
newest=
for minor in 9 10 11 12 13 14 15; do
    found=$(find_python "$minor")
    if [ -n "$found" ]; then
        [ -n "$oldest" ] || oldest=$minor
        newest=$minor
    fi
done
[ "$oldest" = 9 ] || echo "pythons.sh: no Python 3.9 on this machine: the oldest found is 3.$oldest" >&2

for minor in $oldest $(test "$newest" = "$oldest" || echo "$newest"); do
    python=$(find_python "$minor")
    venv=.venv-3.$minor
    echo "== Python 3.$minor: $python"
    if ! [ -e "$venv/installed" ] || [ -n "$(find pyproject.toml -newer "$venv/installed")" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[test]'
        touch "$venv/installed"
    fi
    "$venv/bin/python" -m pytest -q "$@"
done
