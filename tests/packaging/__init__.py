"""What users install: packages, the one file, the wheel, and `make install`."""
