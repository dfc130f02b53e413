"""ATen operators that combine elements over axes: sums, norms, softmax."""

import math

import torch

_aten = torch.ops.aten


def _over(operator):
    """A reduction. Dimensions of size 1 change nothing; they may not even be there in the blueprint."""

    def translate(g, out, a, dimensions=None, keep=False, *, dtype=None):
        dimensions = [dimensions] if isinstance(dimensions, int) else dimensions
        dimensions = range(len(a.sizes)) if not dimensions else dimensions
        axes = sorted(axis for axis in map(a.axis, dimensions) if axis >= 0)
        numbers = g.number(a)
        shape = [size for axis, size in enumerate(numbers.shape) if axis not in axes]
        return g.call(operator, [numbers], shape, axes=axes) if axes else numbers

    return translate


_sum, _mean = _over("sum"), _over("mean")


def _kept(sizes, dimensions):
    """Sizes after a reduction that keeps its dimensions."""
    dimensions = [dimension % len(sizes) for dimension in dimensions]
    return [1 if axis in dimensions else size for axis, size in enumerate(sizes)]


def _centred(g, out, a, dimensions):
    mean = g.view(_mean(g, out, a, dimensions), _kept(a.sizes, dimensions))
    return g.view(g.elementwise("sub", a, mean), a.sizes)


def _variance(g, out, a, dimensions=None, *, correction=1, keepdim=False):
    dimensions = range(len(a.sizes)) if not dimensions else dimensions
    centred = _centred(g, out, a, dimensions)
    total = _sum(g, out, g.view(g.elementwise("mul", centred, centred), a.sizes), dimensions)
    count = math.prod(a.sizes[dimension] for dimension in dimensions)
    return g.elementwise("div", total, count - (1 if correction is None else correction))


def _deviation(g, out, a, dimensions=None, *, correction=1, keepdim=False):
    return g.elementwise("sqrt", _variance(g, out, a, dimensions, correction=correction))


def _vector_norm(g, out, a, order=2, dimensions=None, keep=False, *, dtype=None):
    if order == 1:
        return _sum(g, out, g.view(g.elementwise("abs", a), a.sizes), dimensions)
    if order == math.inf:
        return _over("max")(g, out, g.view(g.elementwise("abs", a), a.sizes), dimensions)
    if order != 2:
        raise NotImplementedError(f"a blueprint has norms of order 1, 2 and infinity, not {order}")
    return g.elementwise("sqrt", _sum(g, out, g.view(g.elementwise("mul", a, a), a.sizes), dimensions))


def softmax(g, out, a, dimension, *_):
    """e^a over its sum along a dimension."""
    a = g.full(g.number(a))
    return g.call("softmax", [a], a.shape, axis=dimension % len(a.sizes))


def _log_sum(g, a, dimension):
    """a minus its largest element along a dimension, that largest element, and log(sum(e^(a - it)))."""
    a = g.full(g.number(a))
    axes, kept = [dimension % len(a.sizes)], _kept(a.sizes, [dimension])
    largest = g.call("max", [a], kept, axes=axes, keep=True)
    shifted = g.elementwise("sub", a, largest)
    total = g.call("sum", [g.elementwise("exp", shifted)], kept, axes=axes, keep=True)
    return shifted, largest, g.elementwise("log", total)


def _log_softmax(g, out, a, dimension, *_):
    shifted, _, total = _log_sum(g, a, dimension)
    return g.elementwise("sub", shifted, total)


def _logsumexp(g, out, a, dimensions, keep=False):
    if len(dimensions) != 1:
        raise NotImplementedError("it is over several dimensions at once; flatten them first")
    _, largest, total = _log_sum(g, a, dimensions[0])
    return g.elementwise("add", largest, total)


def _layer_norm(g, out, a, normalized, weight=None, bias=None, eps=1e-5, *_):
    return _normalise(g, "layer_norm", a, math.prod(normalized), len(normalized), weight, bias, eps)


def _rms_norm(g, out, a, normalized, weight=None, eps=None):
    eps = torch.finfo(out.dtype).eps if eps is None else eps
    return _normalise(g, "rms_norm", a, math.prod(normalized), len(normalized), weight, None, eps)


def _normalise(g, operator, a, width, rank, weight, bias, eps):
    """Normalisation over the last `rank` dimensions, which are taken as one."""
    a = g.full(g.view(a, [*a.sizes[:-rank], width]), 1)
    # The operators take no bias without a weight.
    inside = [value for value in (weight, bias if weight is not None else None) if value is not None]
    normal = g.call(operator, [a, *(g.full(g.view(value, [width])) for value in inside)], a.shape, eps=eps)
    return g.elementwise("add", normal, g.view(bias, [width])) if bias is not None and weight is None else normal


def _group_norm(g, out, a, groups, weight=None, bias=None, eps=1e-5, *_):
    samples, channels, *rest = a.sizes
    grouped = g.view(a, [samples * groups, math.prod(a.sizes[1:]) // groups])
    result = g.view(_normalise(g, "layer_norm", grouped, grouped.sizes[-1], 1, None, None, eps), a.sizes)
    for operator, value in (("mul", weight), ("add", bias)):
        if value is not None:
            result = g.elementwise(operator, result, g.view(value, [channels, *(1 for _ in rest)]))
    return result


def _batch_norm(g, out, a, weight, bias, mean, variance, momentum, eps):
    """In evaluation: by the statistics that the module holds."""
    sizes = [a.sizes[1], *(1 for _ in a.sizes[2:])]
    factor = g.elementwise("rsqrt", g.elementwise("add", g.view(variance, sizes), eps))
    result = g.elementwise("mul", g.elementwise("sub", a, g.view(mean, sizes)), factor)
    for operator, value in (("mul", weight), ("add", bias)):
        if value is not None:
            result = g.elementwise(operator, result, g.view(value, sizes))
    return [result]


def _largest(g, out, a, count, dimension=-1, largest=True, *_):
    """The largest elements along a dimension, in order, and where they stand."""
    a = g.full(g.number(a))
    axis = dimension % len(a.sizes)
    shape = [count if position == axis else size for position, size in enumerate(a.sizes)]
    ordered = a if largest else g.elementwise("neg", a)
    values = g.call("top_k", [ordered], shape, axis=axis, k=count, output="values")
    indices = g.call("top_k", [ordered], shape, torch.int64, axis=axis, k=count, output="indices")
    return [values if largest else g.elementwise("neg", values), indices]


def _sorted(g, out, a, dimension=-1, descending=False, *_):
    return _largest(g, out, a, a.sizes[dimension], dimension, descending)


def _extreme(largest):
    return lambda g, out, a, dimension, keep=False: _largest(g, out, a, 1, dimension, largest)


def _place_of_extreme(largest):
    def translate(g, out, a, dimension=None, keep=False):
        if dimension is None:
            a, dimension = g.view(a, [math.prod(a.sizes)]), 0
        return _largest(g, out, a, 1, dimension, largest)[1]

    return translate


REDUCTION = {
    _aten.sum.default: _sum,
    _aten.sum.dim_IntList: _sum,
    _aten.mean.default: _mean,
    _aten.mean.dim: _mean,
    _aten.amax.default: _over("max"),
    _aten.amin.default: _over("min"),
    _aten.max.default: _over("max"),
    _aten.min.default: _over("min"),
    _aten.var.correction: _variance,
    _aten.std.correction: _deviation,
    _aten.linalg_vector_norm.default: _vector_norm,
    _aten.softmax.int: softmax,
    _aten._softmax.default: softmax,
    _aten.log_softmax.int: _log_softmax,
    _aten._log_softmax.default: _log_softmax,
    _aten.logsumexp.default: _logsumexp,
    _aten._native_batch_norm_legit_no_training.default: _batch_norm,
    _aten.topk.default: _largest,
    _aten.sort.default: _sorted,
    _aten.max.dim: _extreme(largest=True),
    _aten.min.dim: _extreme(largest=False),
    _aten.argmax.default: _place_of_extreme(largest=True),
    _aten.argmin.default: _place_of_extreme(largest=False),
    _aten.layer_norm.default: _layer_norm,
    _aten.rms_norm.default: _rms_norm,
    _aten.group_norm.default: _group_norm,
}
