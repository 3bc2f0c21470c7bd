"""Timing: task graphs, and their cycles on a mesh of PEs."""
