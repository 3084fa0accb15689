"""Wallets: encrypted keystores and claims."""
