"""Report: what a step costs, why, and what it could not cost less than."""
