"""Arithmetic: a Program computed tile by tile, in the order in which the wafer's PEs would add."""
