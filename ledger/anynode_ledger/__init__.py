"""The ledger: accepted work becomes double-entry transfers, batches and reward roots."""
