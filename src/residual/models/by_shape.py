"""The shapes that the layers of our networks give, on the meta device, found out without torch's compiler.

To find them out torch imports sympy and its compiler, some seconds of a process that would otherwise never need them.
What is not listed here torch answers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Pair = int | Sequence[int]


class ByShape(TorchFunctionMode):
    """While it is entered, tensors of the meta device are answered by shape. All of them must be of one type."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        shape = _SHAPES[func](*args, **named) if func in _SHAPES else None
        if shape is None or min(shape) < 1:  # what leaves no map torch refuses
            return func(*args, **named)
        return torch.empty(shape, device="meta")


def _joined(*values: Any) -> Sequence[int] | None:
    """Of sums and products: an axis of 1 is as long as that of the others. What does not fit torch refuses."""
    shapes = [value.shape for value in values if isinstance(value, Tensor)]
    axes = max(map(len, shapes))
    sizes = [*zip(*((1,) * (axes - len(shape)) + tuple(shape) for shape in shapes), strict=True)]
    return [max(own) for own in sizes] if all(len({*own} - {1}) <= 1 for own in sizes) else None


def _reduced(values: Tensor, dim: tuple[int, ...]) -> Sequence[int]:
    return [size for axis, size in enumerate(values.shape) if axis not in dim]


def _unchanged(values: Tensor, *more: object, **named: object) -> Sequence[int] | None:
    """Of ReLU, and of normalisation, whose constants are one for each channel."""
    others = [one for one in (*more, *named.values()) if isinstance(one, Tensor)]
    return values.shape if all(one.shape == values.shape[1:2] for one in others) else None


def _multiplied(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Sequence[int] | None:
    return (*values.shape[:-1], len(weight)) if values.shape[-1] == weight.shape[1] else None


def _convolved(
    maps_NCHW: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Sequence[int] | None:
    if maps_NCHW.shape[1] != groups * weight.shape[1]:
        return None
    return (len(maps_NCHW), len(weight), *_slid(maps_NCHW, weight.shape[2:], stride, padding, dilation))


def _largest(
    maps_NCHW: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Sequence[int] | None:
    if return_indices:
        return None
    return (*maps_NCHW.shape[:2], *_slid(maps_NCHW, kernel_size, stride, padding, dilation, ceil_mode))


def _averaged(
    maps_NCHW: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Sequence[int]:
    return (*maps_NCHW.shape[:2], *_slid(maps_NCHW, kernel_size, stride, padding, 1, ceil_mode))


def _slid(
    maps_NCHW: Tensor, kernel: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil: bool = False
) -> list[int]:
    """The sides of what a window gives that slides over maps, as the documentation of torch has them."""
    sides = []
    for axis, size in enumerate(maps_NCHW.shape[2:]):
        pad, step = _of(padding, axis), _of(kernel if stride is None else stride, axis)
        free = size + 2 * pad - _of(dilation, axis) * (_of(kernel, axis) - 1) - 1
        side = (-(-free // step) if ceil else free // step) + 1
        sides.append(side - (ceil and (side - 1) * step >= size + pad))  # no window begins in the padding behind
    return sides


def _of(pair: Pair, axis: int) -> int:
    return pair if isinstance(pair, int) else pair[axis]


def _pooled(maps_NCHW: Tensor, side: int) -> Sequence[int]:
    return (*maps_NCHW.shape[:2], side, side)


def _padded(maps: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Sequence[int]:
    added = [before + behind for before, behind in zip(pad[::2], pad[1::2], strict=True)]  # from the last axis on
    return [size + more for size, more in zip(maps.shape, [0] * (maps.ndim - len(added)) + added[::-1], strict=True)]


_SHAPES: dict[Callable[..., Any], Callable[..., Sequence[int] | None]] = {
    **dict.fromkeys((torch.add, Tensor.add, Tensor.mul, Tensor.__rsub__, torch.sigmoid), _joined),
    **dict.fromkeys((F.batch_norm, F.relu), _unchanged),
    Tensor.mean: _reduced,
    F.linear: _multiplied,
    F.conv2d: _convolved,
    F.max_pool2d: _largest,
    F.avg_pool2d: _averaged,
    F.adaptive_avg_pool2d: _pooled,
    F.pad: _padded,
}
