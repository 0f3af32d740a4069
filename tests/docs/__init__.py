"""The documents hold: commands are run, samples compared, recipes tried, links followed."""
