"""The tests of wsesim, and what they share."""
