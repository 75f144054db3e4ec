"""Figures of networks on images: protocols, ensembles, statistics. Below training, which calls it."""
