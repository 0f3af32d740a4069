"""The real executable, driven from outside."""
