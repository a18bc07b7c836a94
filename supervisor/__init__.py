"""Consumes ARI events, owns the calls, and hands each one to a worker."""
