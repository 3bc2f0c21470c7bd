"""Where the layers go: blocks, memory, prices, placements by hand, refusals."""
