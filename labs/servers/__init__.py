"""The real servers that tests run against, started on loopback and ended with the test process."""
