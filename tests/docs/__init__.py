"""Tests of the documents: they run the commands, compare the samples, try the recipes and follow the links."""
