"""Crontabs: reading them as cron does, putting ``cronlock run`` before their commands, checking them.

Pure functions on text. What cron does is taken from the sources of Debian's cron 3.0pl1 and of
cronie, which differ in little; where they do, what is written means the same to both.
"""
