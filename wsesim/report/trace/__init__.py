"""Traces: what happens on a wafer over time, as tracks of slices, flows and counters, in a file for Perfetto."""
