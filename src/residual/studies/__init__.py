"""Everything that trains more than once."""
