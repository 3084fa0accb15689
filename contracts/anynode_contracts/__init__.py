"""What every part of AnyNode shares about the chain: contracts, signed messages, Merkle trees, networks."""
