"""The round protocol: signed messages, dealing of samples, and the pure state machines."""
