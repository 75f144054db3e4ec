"""Networks: what they are (`spec`), which are known (`catalogue`), how they are made, counted and saved."""

from residual.models.catalogue import find, matching, resolve, variants
from residual.models.counting import Counts, count
from residual.models.entries import NETWORKS, Entry
from residual.models.explain import Explanation, explain
from residual.models.networks import ResidualNetwork, build, layout_of, overwrite_activations, put
from residual.models.saved import load_weights, pack_weights
from residual.models.spec import NetworkSettings, NetworkSpec
from residual.models.stems import describe_stem

__all__ = [
    "NETWORKS",
    "Counts",
    "Entry",
    "Explanation",
    "NetworkSettings",
    "NetworkSpec",
    "ResidualNetwork",
    "build",
    "count",
    "describe_stem",
    "explain",
    "find",
    "layout_of",
    "load_weights",
    "matching",
    "overwrite_activations",
    "pack_weights",
    "put",
    "resolve",
    "variants",
]
