"""Training: inner steps, traces, and the process they run in."""
