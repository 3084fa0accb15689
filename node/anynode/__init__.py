"""AnyNode: train models together on computers that nobody has to trust."""

__version__ = "0.1.0"
