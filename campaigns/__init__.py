"""Campaigns: longer proofs that need more than a test run. `python -m campaigns` lists them."""
