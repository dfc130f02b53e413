"""ATen operators that make values from nothing, or the same values in another type: numbers, counts, masks, casts."""

import torch

from .movement import operators

_aten = torch.ops.aten


def positions(g, count):
    """The numbers 0, 1, .., as many as asked for."""
    return g.call("index", [], (count,), count=count)


def causal(g, rows, columns, diagonal=0):
    """Truth values `[rows, columns]`: those on a diagonal and left of it."""
    row = g.elementwise("add", g.view(positions(g, rows), [rows, 1]), diagonal) if diagonal else positions(g, rows)
    row = g.view(row, [rows, 1])
    shape = torch.broadcast_shapes(row.shape, (columns,))
    return g.call("greater_equal", [row, positions(g, columns)], shape, torch.bool)


def _triangle(lower):
    def translate(g, out, a, diagonal=0):
        rows, columns = a.sizes[-2:]
        mask = causal(g, rows, columns, diagonal if lower else diagonal - 1)
        zero = g.constant(0)
        chosen = [mask, g.number(a), zero] if lower else [mask, zero, g.number(a)]
        found = g.call("where", chosen, torch.broadcast_shapes(*(value.shape for value in chosen)))
        return g.cast(found, out.dtype)

    return translate


def _arange(g, out, *bounds, **_):
    start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    numbers = positions(g, out.shape[0])
    numbers = numbers if step == 1 else g.elementwise("mul", numbers, step)
    return g.cast(numbers if start == 0 else g.elementwise("add", numbers, start), out.dtype)


def filled(g, out, number):
    """One number everywhere."""
    return g.expand(g.cast(g.constant(number), out.dtype), out.shape)


def _filled_with(number):
    return lambda g, out, *_, **__: filled(g, out, number)


def _cast(g, out, a, *_, **__):
    if a.dtype.is_floating_point and out.dtype.is_floating_point:
        if torch.finfo(out.dtype).bits == 64 and g.dtype != torch.float64:
            raise NotImplementedError(f"a blueprint for rows of {g.dtype} does not compute in {out.dtype}")
        if out.dtype == torch.float32 and g.dtype == torch.float64:
            raise NotImplementedError("a blueprint for rows of torch.float64 does not round to torch.float32")
    return g.cast(a, out.dtype)


CREATION = {
    **dict.fromkeys(operators("_to_copy.default to.dtype to.device to.dtype_layout to.other type_as.default"), _cast),
    **dict.fromkeys(operators("zeros.default zeros_like.default new_zeros.default"), _filled_with(0)),
    **dict.fromkeys(operators("ones.default ones_like.default new_ones.default"), _filled_with(1)),
    _aten.tril.default: _triangle(lower=True),
    _aten.triu.default: _triangle(lower=False),
    _aten.arange.default: _arange,
    _aten.arange.start: _arange,
    _aten.arange.start_step: _arange,
    _aten.full.default: lambda g, out, _, number, **__: filled(g, out, number),
    _aten.full_like.default: lambda g, out, _, number, **__: filled(g, out, number),
    _aten.new_full.default: lambda g, out, a, _, number, **__: filled(g, out, number),
    _aten.scalar_tensor.default: lambda g, out, number, **_: filled(g, out, number),
    _aten.fill.Scalar: lambda g, out, _, number: filled(g, out, number),
    _aten.copy.default: lambda g, out, _, a, *__: g.expand(g.cast(a, out.dtype), out.shape),
}
