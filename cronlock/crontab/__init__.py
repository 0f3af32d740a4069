"""Parse, wrap and check crontabs: pure functions on text.

The behaviour of cron follows the sources of Debian's cron 3.0pl1 and of cronie. Where they differ, the output means
the same to both.
"""
