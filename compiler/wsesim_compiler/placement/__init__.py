"""Where the layers go: blocks, memory, estimates, placements by hand, refusals."""
