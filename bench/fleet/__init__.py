"""What a whole fleet costs its lock server when all nodes ask at once: ``python -m bench.fleet``."""
