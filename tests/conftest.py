"""What pytest must know before it loads the tests."""

from __future__ import annotations

import signal

# A shell starts what it puts into the background with these ignored, and every child would inherit that.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
