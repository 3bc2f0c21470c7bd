"""Readers of model sources: each returns a raw Graph."""
