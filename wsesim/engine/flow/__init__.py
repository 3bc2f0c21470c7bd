"""The flow fidelity: a head and a tail event per message and link; compiled kernels and their NumPy twins."""
