"""Steps: a decode step, a prompt, tokens in flight."""
