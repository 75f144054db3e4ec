"""What is computed and drawn from finished runs; nothing here trains."""
