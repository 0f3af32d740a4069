"""cronlock: run a command on one machine at a time.

The package is a program first: ``cronlock run`` stands before a crontab line.
Start-up cost counts, so modules on the way of ``run`` import little and late
(see docs/architecture.md).
"""

__version__ = "0.1.0"
