"""Figures of a network on images: counts, single view. Below training, which calls it."""
