"""Damaged files for every reader: `make fuzz`."""
