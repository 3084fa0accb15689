"""The verifier: coordinates rounds, recomputes sampled work, settles what was accepted."""
