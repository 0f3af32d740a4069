# cronlock.pyz starts here. Any Python must be able to parse this file, even Python 2.
# ruff: noqa: UP031, UP036
import sys

if sys.version_info < (3, 9):
    sys.stderr.write(
        "cronlock: needs Python 3.9 or later, and this is %d.%d (%s); run it as: python3.9 %s\n"
        % (sys.version_info[0], sys.version_info[1], sys.executable, sys.path[0])
    )
    sys.exit(70)

from _frozen_importlib_external import MAGIC_NUMBER

# The byte code for this interpreter, if the file contains it. Otherwise it compiles the sources.
sys.path.insert(0, "%s/%s" % (sys.path[0], MAGIC_NUMBER[:2].hex()))

from cronlock.__main__ import main

main()
