"""The task graph: the tasks of every PE in a step, and the messages between them; its builder and rules."""
