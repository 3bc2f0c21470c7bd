"""Timing: task graphs, and what they cost in cycles on a mesh of PEs."""
