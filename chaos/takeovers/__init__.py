"""How late a takeover comes after a machine died, and which of its steps takes how long."""
