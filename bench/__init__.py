"""What cronlock costs, measured beside the bare interpreter: ``python -m bench.performance``."""
