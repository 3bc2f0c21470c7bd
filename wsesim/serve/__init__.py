"""The completions facade: replies in the shape of the Cerebras Completions API."""
