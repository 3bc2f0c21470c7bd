"""What recognize looks for, one pattern per file."""
