"""What a run did: critical path, traffic, the cycles of one line."""
