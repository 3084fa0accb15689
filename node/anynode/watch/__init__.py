"""Watching a node: what it is doing, as metrics, as log lines and as a line at the terminal."""
