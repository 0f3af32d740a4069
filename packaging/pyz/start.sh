#!/bin/sh
exec python3 -IS "$0" "$@"
