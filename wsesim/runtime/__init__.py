"""Runtime: a request's way through the simulated wafer, on a virtual clock. Joins execute and engine."""
