"""Tests of everything that users install: packages, cronlock.pyz, the wheel, and `make install`."""
