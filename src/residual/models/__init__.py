"""Networks: what they are (`spec`), which are known (`catalogue`), how they are made, counted and saved."""

from residual.models.catalogue import NETWORKS, find, resolve, variants
from residual.models.counting import Counts, count
from residual.models.networks import ResidualNetwork, build
from residual.models.saved import load_weights, pack_weights
from residual.models.spec import NetworkSettings, NetworkSpec

__all__ = [
    "NETWORKS",
    "Counts",
    "NetworkSettings",
    "NetworkSpec",
    "ResidualNetwork",
    "build",
    "count",
    "find",
    "load_weights",
    "pack_weights",
    "resolve",
    "variants",
]
