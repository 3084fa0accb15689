"""Exact arithmetic: what every peer must compute to the same bits, so that a hash settles any argument."""
