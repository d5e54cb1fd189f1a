"""The command line: one command a step."""
