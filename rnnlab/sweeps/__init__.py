"""Sweeps as things on disk: many runs of one command, told by a ledger that many processes write."""
