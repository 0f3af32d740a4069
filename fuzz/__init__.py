"""Fuzzing of everything that parses foreign input: only the documented errors may come out."""
