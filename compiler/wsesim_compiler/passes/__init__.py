"""The steps of the lowering, one file each."""
