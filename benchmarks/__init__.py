"""Benchmarks. Each asserts the work that was done. Times are medians, and ratios are of one run."""
