"""What is known of a key, as data, as a table for people, and in Prometheus' format: pure functions."""
