"""Exact shortcuts: recalled effects, folded lines, repeated bodies, walked transfers. Same cycles as whole graphs."""
