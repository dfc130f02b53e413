"""ATen operators that act element by element, and what each is in a blueprint.

An entry of a table takes the graph, what torch says of the result (`out`: its sizes and type) and the operator's own
arguments, in which tensors are values of the graph. What it returns may still have leading axes of size 1.
"""

import math

import torch

from .graph import Value

_aten = torch.ops.aten


def _plain(operator):
    """The operator of a blueprint that is the same."""
    return lambda g, out, *inputs: g.elementwise(operator, *inputs)


def _arithmetic(operator):
    """Arithmetic that whole numbers have too. Torch's promotion of types becomes casts."""

    def translate(g, out, a, b, *, alpha=1):
        b = b if alpha == 1 else g.elementwise("mul", b, alpha)
        if out.dtype.is_floating_point:
            return g.elementwise(operator, a, b)
        return _broadcast(g, operator, [_typed(g, a, out.dtype), _typed(g, b, out.dtype)], out.dtype)

    return translate


def _compare(operator):
    def translate(g, out, a, b):
        types = [value.dtype for value in (a, b) if isinstance(value, Value)]
        common = next((dtype for dtype in types if dtype.is_floating_point), types[0])
        if isinstance(a, float) or isinstance(b, float):
            common = g.dtype
        return _broadcast(g, operator, [_typed(g, a, common), _typed(g, b, common)], torch.bool)

    return translate


def _logical(operator):
    return lambda g, out, *inputs: _broadcast(g, operator, [g.cast(a, torch.bool) for a in inputs], torch.bool)


def _bitwise(operator):
    def translate(g, out, *inputs):
        if out.dtype != torch.bool:
            raise NotImplementedError("a blueprint has no bitwise arithmetic of whole numbers")
        return _logical(operator)(g, out, *inputs)

    return translate


def _typed(g, value, dtype):
    return g.cast(value if isinstance(value, Value) else g.constant(value), dtype)


def _broadcast(g, operator, inputs, dtype):
    return g.call(operator, inputs, torch.broadcast_shapes(*(value.shape for value in inputs)), dtype)


def choose(g, condition, a, b):
    """a where the condition holds, else b."""
    condition, a, b = g.cast(condition, torch.bool), g.number(a), g.number(b)
    return _broadcast(g, "where", [condition, a, b], g.dtype)


def _above(g, a, b):
    return _broadcast(g, "greater", [g.number(a), g.number(b)], torch.bool)


def _where(g, out, condition, a, b):
    return choose(g, condition, a, b)


def _masked_fill(g, out, a, mask, value):
    return choose(g, mask, value, a)


def _clamp(g, out, a, low=None, high=None):
    """Within bounds. At a bound that is a number the gradient passes, as in torch; NaN stays NaN."""
    for bound, is_low in ((low, True), (high, False)):
        if bound is not None:
            a = choose(g, _above(g, bound, a) if is_low else _above(g, a, bound), bound, a)
    return a


def _power(g, out, a, exponent):
    if isinstance(exponent, Value) or isinstance(a, (int, float)):
        return g.elementwise("pow", a, exponent)
    known = {0.5: "sqrt", -0.5: "rsqrt"}
    if exponent in known:
        return g.elementwise(known[exponent], a)
    if exponent in (1, 2, 3):
        product = g.number(a)
        for _ in range(int(exponent) - 1):
            product = g.elementwise("mul", product, a)
        return product
    return g.elementwise("div", 1, a) if exponent == -1 else g.elementwise("pow", a, exponent)


def _softplus_of(g, a):
    """log(1 + e^a), which does not overflow: max(a, 0) + log(1 + e^-|a|)."""
    small = g.elementwise("exp", g.elementwise("neg", g.elementwise("abs", a)))
    return g.elementwise("add", g.elementwise("relu", a), g.elementwise("log", g.elementwise("add", small, 1)))


def _softplus(g, out, a, beta=1, threshold=20):
    scaled = a if beta == 1 else g.elementwise("mul", a, beta)
    soft = _softplus_of(g, scaled)
    soft = soft if beta == 1 else g.elementwise("div", soft, beta)
    return choose(g, _above(g, scaled, threshold), a, soft)


def _log_sigmoid(g, out, a):
    return g.elementwise("neg", _softplus_of(g, g.elementwise("neg", a)))


def _mish(g, out, a):
    return g.elementwise("mul", a, g.elementwise("tanh", _softplus_of(g, a)))


def _elu(g, out, a, alpha=1, scale=1, input_scale=1):
    # The exponential is taken of what is not above zero, so it never overflows where the other side is chosen.
    low = choose(g, _above(g, a, 0), 0, a)
    low = low if input_scale == 1 else g.elementwise("mul", low, input_scale)
    curve = g.elementwise("sub", g.elementwise("exp", low), 1)
    curve = curve if alpha * scale == 1 else g.elementwise("mul", curve, alpha * scale)
    return choose(g, _above(g, a, 0), a if scale == 1 else g.elementwise("mul", a, scale), curve)


def _celu(g, out, a, alpha=1):
    return _elu(g, out, a, alpha, 1, 1 / alpha)


def _selu(g, out, a):
    return _elu(g, out, a, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def _leaky_relu(g, out, a, slope=0.01):
    return choose(g, _above(g, a, 0), a, g.elementwise("mul", a, slope))


def _prelu(g, out, a, weight):
    # The weights of channels stand along the second dimension.
    weight = weight if weight.shape == () else g.view(weight, [*weight.shape, *(1 for _ in a.sizes[2:])])
    return _leaky_relu(g, out, a, weight)


def _hard_sigmoid_of(g, out, a):
    return g.elementwise("div", _clamp(g, out, g.elementwise("add", a, 3), 0, 6), 6)


def _hard_swish(g, out, a):
    return g.elementwise("mul", a, _hard_sigmoid_of(g, out, a))


def _gelu(g, out, a, *, approximate="none"):
    return g.call("gelu", [a], a.shape, approximate=approximate)


def _reciprocal(g, out, a):
    return g.elementwise("div", 1, a)


def _ceiling(g, out, a):
    return g.elementwise("neg", g.elementwise("floor", g.elementwise("neg", a)))


def _sign(g, out, a):
    return choose(g, _above(g, a, 0), 1, choose(g, _above(g, 0, a), -1, 0))


def _tangent(g, out, a):
    return g.elementwise("div", g.elementwise("sin", a), g.elementwise("cos", a))


def _log1p(g, out, a):
    return g.elementwise("log", g.elementwise("add", a, 1))


def _expm1(g, out, a):
    return g.elementwise("sub", g.elementwise("exp", a), 1)


def _scaled_logarithm(base):
    return lambda g, out, a: g.elementwise("mul", g.elementwise("log", a), 1 / math.log(base))


def _dropout(g, out, a, probability, train):
    if not train or probability == 0:
        return a
    return g.call("dropout", [a], a.shape, p=probability)


ELEMENTWISE = {
    **{
        getattr(_aten, name).default: _plain(name)
        for name in "abs cos erf exp floor log neg relu rsqrt sin sqrt".split()
    },
    **{getattr(_aten, name).default: _plain(name) for name in "sigmoid silu tanh maximum minimum".split()},
    **{
        getattr(getattr(_aten, name), kind): _arithmetic(name)
        for name in ("add", "sub", "mul")
        for kind in ("Tensor", "Scalar")
    },
    _aten.rsub.Scalar: lambda g, out, a, b, alpha=1: _arithmetic("sub")(g, out, b, a, alpha=alpha),
    _aten.div.Tensor: _plain("div"),
    _aten.div.Scalar: _plain("div"),
    _aten.reciprocal.default: _reciprocal,
    _aten.square.default: lambda g, out, a: g.elementwise("mul", a, a),
    _aten.pow.Tensor_Scalar: _power,
    _aten.pow.Tensor_Tensor: _power,
    _aten.pow.Scalar: _power,
    _aten.log1p.default: _log1p,
    _aten.expm1.default: _expm1,
    _aten.log2.default: _scaled_logarithm(2.0),
    _aten.log10.default: _scaled_logarithm(10.0),
    _aten.ceil.default: _ceiling,
    _aten.sign.default: _sign,
    _aten.tan.default: _tangent,
    _aten.where.self: _where,
    _aten.where.ScalarOther: _where,
    _aten.where.ScalarSelf: _where,
    _aten.where.Scalar: _where,
    _aten.masked_fill.Scalar: _masked_fill,
    _aten.masked_fill.Tensor: _masked_fill,
    _aten.clamp.default: _clamp,
    _aten.clamp.Tensor: _clamp,
    _aten.clamp_min.default: _clamp,
    _aten.clamp_max.default: lambda g, out, a, high: _clamp(g, out, a, None, high),
    _aten.hardtanh.default: lambda g, out, a, low=-1, high=1: _clamp(g, out, a, low, high),
    _aten.relu6.default: lambda g, out, a: _clamp(g, out, a, 0, 6),
    _aten.softplus.default: _softplus,
    _aten.log_sigmoid.default: _log_sigmoid,
    _aten.mish.default: _mish,
    _aten.elu.default: _elu,
    _aten.celu.default: _celu,
    _aten.selu.default: _selu,
    _aten.leaky_relu.default: _leaky_relu,
    _aten.prelu.default: _prelu,
    _aten.hardsigmoid.default: _hard_sigmoid_of,
    _aten.hardswish.default: _hard_swish,
    _aten.gelu.default: _gelu,
    _aten.dropout.default: _dropout,
    _aten.native_dropout.default: lambda *arguments: [_dropout(*arguments)],
    _aten.logical_and.default: _logical("logical_and"),
    _aten.logical_or.default: _logical("logical_or"),
    _aten.logical_not.default: _logical("logical_not"),
    _aten.bitwise_and.Tensor: _bitwise("logical_and"),
    _aten.bitwise_or.Tensor: _bitwise("logical_or"),
    _aten.bitwise_not.default: _bitwise("logical_not"),
    **{
        getattr(getattr(_aten, name), kind): translate
        for name, translate in {
            "gt": _compare("greater"),
            "ge": _compare("greater_equal"),
            "lt": _compare("less"),
            "le": _compare("less_equal"),
            "eq": _compare("equal"),
            "ne": _compare("not_equal"),
        }.items()
        for kind in ("Tensor", "Scalar")
    },
}
