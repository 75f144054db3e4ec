"""Weights in and out: safe readers of foreign files, and one mapping of names for each library."""
