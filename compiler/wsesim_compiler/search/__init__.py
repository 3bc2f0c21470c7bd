"""Search: where the layers of a model go on a wafer."""
