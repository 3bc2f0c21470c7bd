"""The version of wsesim. A leaf: every package may state it."""

__version__ = "0.1.0"
