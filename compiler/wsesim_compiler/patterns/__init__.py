"""What `recognize` looks for in a canonical graph, one operator per file."""
