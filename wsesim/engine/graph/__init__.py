"""The task graph: what every PE does in a step, and the messages between them; builder and rules."""
