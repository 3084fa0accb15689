"""A worker: it follows one job's rounds, trains, exchanges, and keeps the job's state."""
