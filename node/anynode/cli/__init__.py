"""The command line: `anynode`. Every command is a module of its own, imported only when it is asked for."""
