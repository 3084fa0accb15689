"""The machine: hardware class, pinned arithmetic settings, limits."""
