"""ATen operators that move elements and leave them as they are: views, slices, joins."""

import math

import torch


_aten = torch.ops.aten
# What a blueprint's `concat` takes.
_MOST_PARTS = 16


def _view(g, out, a, *_, **__):
    return g.view(a, out.shape)


def _expand(g, out, a, *_, **__):
    return g.expand(a, out.shape)


def _permute(g, out, a, order):
    return g.permute(a, [axis % len(a.sizes) for axis in order])


def _transpose(g, out, a, first=0, second=1):
    order = list(range(len(a.sizes)))
    if order:
        order[first], order[second] = order[second], order[first]
    return g.permute(a, order)


def part(g, a, dimension, start, stop, step=1):
    """Elements along a dimension; `start` and `stop` are within it."""
    axis = a.axis(dimension)
    if (start, step) == (0, 1) and stop == a.sizes[dimension]:
        return a
    count = -(-(stop - start) // step)
    if axis < 0 or count < 1:
        raise NotImplementedError("a blueprint has no empty values")
    shape = [count if position == axis else size for position, size in enumerate(a.shape)]
    sizes = list(a.sizes)
    sizes[dimension] = count
    found = g.call("slice", [a], shape, a.dtype, axis=axis, start=start, stop=stop, step=step)
    return g.view(found, sizes)


def _slice(g, out, a, dimension=0, start=None, stop=None, step=1):
    start, stop, step = slice(start, stop, step).indices(a.sizes[dimension])
    return part(g, a, dimension, start, stop, step)


def _slice_scatter(g, out, a, source, dimension=0, start=None, stop=None, step=1):
    """a with other elements in place of a slice of it."""
    size = a.sizes[dimension]
    start, stop, step = slice(start, stop, step).indices(size)
    if step != 1:
        raise NotImplementedError("it writes every so-manieth element; join slices instead")
    pieces = [part(g, a, dimension, 0, start)] if start > 0 else []
    pieces += [g.cast(source, a.dtype)]
    pieces += [part(g, a, dimension, stop, size)] if stop < size else []
    return join(g, pieces, dimension)


def _select(g, out, a, dimension, index):
    index %= a.sizes[dimension]
    return g.view(part(g, a, dimension, index, index + 1), out.shape)


def _pieces(g, out, a, dimension):
    """Consecutive parts as long as the results are."""
    found, start = [], 0
    for piece in out:
        stop = start + piece.shape[dimension]
        found.append(part(g, a, dimension, start, stop))
        start = stop
    return found


def _split(g, out, a, sizes, dimension=0):
    return _pieces(g, out, a, dimension)


def _unbind(g, out, a, dimension=0):
    count = a.sizes[dimension]
    return [g.view(part(g, a, dimension, i, i + 1), piece.shape) for i, piece in zip(range(count), out)]


def join(g, values, dimension):
    """Values one after the other along a dimension."""
    if len(values) == 1:
        return values[0]
    if len(values) > _MOST_PARTS:
        groups = [values[first : first + _MOST_PARTS] for first in range(0, len(values), _MOST_PARTS)]
        return join(g, [join(g, group, dimension) for group in groups], dimension)
    rank = len(values[0].sizes)
    dimension %= rank
    count = max(rank - dimension, *(len(value.shape) for value in values))
    values = [g.full(value, count) for value in values]
    sizes = list(values[0].sizes)
    sizes[dimension] = sum(value.sizes[dimension] for value in values)
    axis = dimension - (rank - count)
    found = g.call("concat", values, sizes[rank - count :], values[0].dtype, axis=axis)
    return g.view(found, sizes)


def _cat(g, out, values, dimension=0):
    return join(g, [g.cast(value, out.dtype) for value in values], dimension)


def _stack(g, out, values, dimension=0):
    sizes = list(out.shape)
    sizes[dimension] = 1
    return join(g, [g.view(g.cast(value, out.dtype), sizes) for value in values], dimension % len(sizes))


def _taken_from(g, a, dimension, indices):
    """The elements at these places along a dimension: slices, as few as there are runs of equal steps."""
    parts, first = [], 0
    while first < len(indices):
        last = first + 1
        step = indices[last] - indices[first] if last < len(indices) else 1
        while last < len(indices) and step > 0 and indices[last] - indices[last - 1] == step:
            last += 1
        parts.append(part(g, a, dimension, indices[first], indices[last - 1] + 1, max(step, 1)))
        first = last
    if len(parts) > 64:
        raise NotImplementedError(f"it picks {len(parts)} separate runs of elements; at most 64 are taken")
    return join(g, parts, dimension)


def _index(g, out, a, indices):
    """Indexing by a constant list along one dimension."""
    used = [dimension for dimension, index in enumerate(indices) if index is not None]
    index = indices[used[0]] if len(used) == 1 else None
    if not isinstance(index, torch.Tensor) or index.dtype == torch.bool or index.dim() != 1:
        raise NotImplementedError("a blueprint takes elements only at places that are constant, along one dimension")
    return _index_select(g, out, a, used[0], index)


def _index_select(g, out, a, dimension, index):
    if not isinstance(index, torch.Tensor):
        raise NotImplementedError("a blueprint takes elements only at places that are constant")
    size = a.sizes[dimension]
    return _taken_from(g, a, dimension, [int(place) % size for place in index])


def _flip(g, out, a, dimensions):
    for dimension in dimensions:
        a = _taken_from(g, a, dimension, list(range(a.sizes[dimension]))[::-1])
    return a


def _roll(g, out, a, shifts, dimensions=()):
    shifts = [shifts] if isinstance(shifts, int) else shifts
    dimensions = [dimensions] if isinstance(dimensions, int) else dimensions
    if not dimensions:
        a, dimensions = g.view(a, [math.prod(a.sizes)]), [0]
    for shift, dimension in zip(shifts, dimensions):
        size = a.sizes[dimension]
        a = _taken_from(g, a, dimension, [(place - shift) % size for place in range(size)])
    return a


def _repeat(g, out, a, repeats):
    sizes = [1] * (len(repeats) - len(a.sizes)) + list(a.sizes)
    pairs = [pair for pair in zip(repeats, sizes) if pair != (1, 1)]
    apart = g.view(a, [size for _, own in pairs for size in (1, own)])
    return g.view(g.expand(apart, [size for pair in pairs for size in pair]), out.shape)


def pad(g, out, a, amounts, value=0):
    for position in range(len(amounts) // 2):
        before, behind = amounts[2 * position : 2 * position + 2]
        dimension = len(a.sizes) - 1 - position
        if before < 0 or behind < 0:
            size = a.sizes[dimension]
            a = part(g, a, dimension, max(-before, 0), size - max(-behind, 0))
        before, behind = max(before, 0), max(behind, 0)
        if before or behind:
            a = _padded(g, a, dimension, before, behind, value)
    return a


def _padded(g, a, dimension, before, behind, value=0):
    full = g.full(a, len(a.sizes) - dimension)
    axis = full.axis(dimension)
    shape, sizes = list(full.shape), list(a.sizes)
    shape[axis] = sizes[dimension] = before + sizes[dimension] + behind
    padded = g.call("pad", [full], shape, a.dtype, axis=axis, before=before, behind=behind, value=value)
    return g.view(padded, sizes)


def _same(g, out, a, *_, **__):
    return a


def operators(names):
    return [getattr(getattr(_aten, name), kind) for name, kind in (name.split(".") for name in names.split())]


# What gives the same elements in the same order.
SAME_ORDER = operators("""
    view.default reshape.default _unsafe_view.default flatten.using_ints unflatten.int squeeze.default squeeze.dim
    squeeze.dims unsqueeze.default view_as.default reshape_as.default _reshape_alias.default
""")
# What gives the same tensor.
COPIES = operators("""
    clone.default contiguous.default alias.default detach.default lift_fresh_copy.default lift_fresh.default
""")

MOVEMENT = {
    **dict.fromkeys(SAME_ORDER, _view),
    **dict.fromkeys(COPIES, _same),
    **dict.fromkeys(operators("expand.default expand_as.default broadcast_to.default"), _expand),
    _aten.permute.default: _permute,
    _aten.transpose.int: _transpose,
    _aten.t.default: _transpose,
    _aten.slice.Tensor: _slice,
    _aten.slice_scatter.default: _slice_scatter,
    _aten.select.int: _select,
    _aten.chunk.default: _split,
    _aten.split.Tensor: _split,
    _aten.split_with_sizes.default: _split,
    _aten.unbind.int: _unbind,
    _aten.cat.default: _cat,
    _aten.stack.default: _stack,
    _aten.index.Tensor: _index,
    _aten.index_select.default: _index_select,
    _aten.flip.default: _flip,
    _aten.roll.default: _roll,
    _aten.repeat.default: _repeat,
    _aten.constant_pad_nd.default: pad,
}
