"""The last layer of a file: of one answer, absent, or in a sequence of its own."""

from __future__ import annotations

from typing import Any

import pytest

from residual.errors import ModelError
from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import Foreign
from tests.models.interchange import layouts
from tests.models.interchange.layouts import State

WIDTHS = (4, 8, 16, 32)


def foreign(state: State) -> Foreign:
    return Foreign(dict(state), "made")


def refusal(state: State, library: Any = "auto") -> str:
    with pytest.raises(ModelError) as caught:
        bring_in(foreign(state), library, "here")
    return str(caught.value)


def test_a_network_of_one_answer_is_refused_with_the_number():
    said = refusal(layouts.make_resnet((1, 1, 1, 1), WIDTHS, False, 1))
    assert "(here): classes is 1: must be greater than or equal to 2; a single answer is a score" in said
