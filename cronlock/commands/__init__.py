"""The commands besides ``run``, one a file: each has `command`, which `cronlock.cli` loads when it is named."""
