"""KINDS: what a cycle of the critical path is spent on. A module of its own, so that reading it loads no engine."""

from __future__ import annotations

KINDS = ("compute", "launch", "network", "wait", "reroute")
