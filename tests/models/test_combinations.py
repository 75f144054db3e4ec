"""Any parts at all: they are refused in words, or they make a network that is counted rightly and can learn."""

from __future__ import annotations

from typing import Any, get_args

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from residual.errors import UsageError
from residual.models import NetworkSettings, NetworkSpec, build, count, resolve
from residual.models import spec as kinds
from residual.models.networks import outline


def choice(kind: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(get_args(kind))


STAGES = st.integers(1, 3).flatmap(
    lambda count: st.tuples(
        st.tuples(*[st.integers(1, 3)] * count),
        st.tuples(*[st.integers(2, 6)] * count).flatmap(lambda w: st.sampled_from([w, tuple(sorted(w))])),
    )
)
PARTS = st.fixed_dictionaries(
    {
        "stem": st.none() | st.sampled_from(["auto", *get_args(kinds.StemKind)]),
        "unit": choice(kinds.UnitKind),
        "order": choice(kinds.OrderKind),
        "shortcut": choice(kinds.ShortcutKind),
        "stride": choice(kinds.StridePlace),
        "gate": choice(kinds.GateKind),
        "norm": choice(kinds.NormKind),
        "downsampling": choice(kinds.DownsamplingKind),
        "shortcut_scale": st.none() | st.just(0.5),
        "shortcut_dropout": st.none() | st.just(0.5),
        "stochastic_depth": st.none() | st.just(0.5),
        "conv_bias": choice(kinds.BiasKind),
        "stride_unit": choice(kinds.StrideUnitKind),
        "first_activation": choice(kinds.FirstActivationKind),
        "pool_padding": choice(kinds.PoolPaddingKind),
        "pool_rounding": choice(kinds.PoolRoundingKind),
        "projection_norm": st.none() | st.booleans(),
        "zero_last_scale": st.none() | st.booleans(),
    }
)


@given(parts=PARTS, stages=STAGES, size=st.tuples(st.integers(5, 20), st.integers(5, 20)), channels=st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_refused_in_words_or_built_and_counted(parts, stages, size, channels):
    depths, widths = stages
    refusal, spec = "", None
    try:
        spec = resolve(NetworkSettings(depths=depths, widths=widths, **parts), 3, channels, size)
    except UsageError as error:
        refusal = error.remedy
    if spec is None:
        # A sentence with the part, its value and the way out.
        assert " is " in refusal
        assert any(word in refusal for word in ("choose", "leave", "give", "let", "set"))
        return
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
    counts = count(spec, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outline(spec).eval()(torch.empty(1, channels, *size, device="meta"))
    assert 2 * counts.multiply_adds == counter.get_total_flops()
    network = build(spec)
    assert counts.parameters == sum(parameter.numel() for parameter in network.parameters())
    network.eval()(torch.zeros(2, channels, *size)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
