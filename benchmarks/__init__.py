"""Side-by-side timings, each printing a ratio; run by `make campaign NAME` on an idle machine."""
