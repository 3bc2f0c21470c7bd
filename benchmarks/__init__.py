"""Benchmarks: each asserts the work that was done, then states times as medians, and ratios within one run."""
