"""ATen operators that sum products: linear, matrix products, einsum, attention, convolution along the chunk."""

import math
import string

import torch

from .creation import causal
from .elementwise import choose
from .movement import pad, part
from .reduction import softmax

_aten = torch.ops.aten


def _linear(g, out, a, weight, bias=None):
    a, weight = g.full(g.number(a), 1), g.full(weight, 2)
    inputs = [a, weight] if bias is None else [a, weight, g.full(bias, 1)]
    return g.call("linear", inputs, (*a.shape[:-1], weight.shape[0]))


def contract(g, letters, inputs, result):
    """An einsum, one letter for a dimension: two at a time, without letters of dimensions of size 1."""
    sizes = {}
    for names, value in zip(letters, inputs):
        if len(set(names)) < len(names):
            raise NotImplementedError(f"{names!r} takes a diagonal, which a blueprint cannot")
        for letter, size in zip(names, value.sizes):
            sizes[letter] = max(size, sizes.get(letter, 1))
    terms = []
    for names, value in zip(letters, inputs):
        # A dimension of size 1 stands for every element of another one: it broadcasts.
        kept = [(letter, size) for letter, size in zip(names, value.sizes) if size != 1]
        terms.append(("".join(letter for letter, _ in kept), g.view(g.number(value), [size for _, size in kept])))
    wanted = "".join(letter for letter in result if sizes[letter] != 1)
    if len(terms) == 1:
        terms.append(("", g.constant(1)))
    while len(terms) > 1:
        (first, a), (second, b), *rest = terms
        later = set(wanted).union(*(names for names, _ in rest))
        found = wanted if not rest else "".join(letter for letter in dict.fromkeys(first + second) if letter in later)
        shape = [sizes[letter] for letter in found]
        terms = [(found, g.call("einsum", [a, b], shape, equation=f"{first},{second}->{found}")), *rest]
    return g.view(terms[0][1], [sizes[letter] for letter in result])


def _einsum(g, out, equation, inputs, *, path=None):
    equation = equation.replace(" ", "")
    left, _, result = equation.partition("->")
    letters = left.split(",")
    unused = iter(sorted(set(string.ascii_letters) - set(equation)))
    if "..." in equation:
        ranks = [len(value.sizes) - len(names.replace("...", "")) for names, value in zip(letters, inputs)]
        batch = "".join(next(unused) for _ in range(max(ranks)))
        letters = [names.replace("...", batch[len(batch) - rank :]) for names, rank in zip(letters, ranks)]
        result = result.replace("...", batch)
    if "->" not in equation:
        joined = "".join(letters)
        result = batch if "..." in equation else ""
        result += "".join(sorted(letter for letter in joined if joined.count(letter) == 1 and letter not in result))
    return contract(g, letters, inputs, result)


def _matmul(g, out, a, b):
    """As torch.matmul: batches broadcast, and one dimension alone is a row or a column."""
    rank = max(len(a.sizes), len(b.sizes)) - 2
    batch, (m, k, n) = string.ascii_lowercase[: max(rank, 0)], string.ascii_uppercase[:3]
    of_a = k if len(a.sizes) == 1 else batch[len(batch) - len(a.sizes) + 2 :] + m + k
    of_b = k if len(b.sizes) == 1 else batch[len(batch) - len(b.sizes) + 2 :] + k + n
    result = batch + (m if len(a.sizes) > 1 else "") + (n if len(b.sizes) > 1 else "")
    return contract(g, [of_a, of_b], [a, b], result)


def _add_matmul(g, out, bias, a, b, *, beta=1, alpha=1):
    product = _matmul(g, out, a, b)
    product = product if alpha == 1 else g.elementwise("mul", product, alpha)
    return g.elementwise("add", product, bias if beta == 1 else g.elementwise("mul", bias, beta))


def _attention(g, out, q, k, v, mask=None, dropout=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    """softmax(q k^T scale) v over the last two dimensions."""
    if enable_gqa:
        raise NotImplementedError("attention with grouped queries: repeat the keys and values in the module")
    turned = g.permute(k, [*range(len(k.sizes) - 2), len(k.sizes) - 1, len(k.sizes) - 2])
    scores = _matmul(g, out, q, turned)
    sizes = scores.sizes
    scores = g.elementwise("mul", scores, 1 / math.sqrt(q.sizes[-1]) if scale is None else scale)
    if is_causal:
        scores = choose(g, causal(g, sizes[-2], sizes[-1]), scores, -math.inf)
    if mask is not None:
        is_truth = mask.dtype == torch.bool
        scores = choose(g, mask, scores, -math.inf) if is_truth else g.elementwise("add", scores, mask)
    weights = softmax(g, out, g.view(scores, sizes), -1)
    if dropout:
        weights = g.call("dropout", [weights], weights.shape, p=dropout)
    return _matmul(g, out, g.view(weights, sizes), v)


def _convolution(g, out, a, weight, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1):
    """Windows that slide along the last dimension, times the taps."""
    (channels, length), (outputs, inner, taps) = a.sizes[1:], weight.sizes
    if padding == "same":
        sides = ((taps - 1) * dilation[0] // 2, (taps - 1) * dilation[0] - (taps - 1) * dilation[0] // 2)
    else:
        sides = (0, 0) if padding == "valid" else (padding[0], padding[0])
    padded = g.full(pad(g, out, a, sides), 1)
    count = padded.shape[-1] - (taps - 1) * dilation[0]
    shape = (*padded.shape[:-1], count, taps)
    windows = g.call("unfold", [padded], shape, axis=len(shape) - 2, size=taps, dilation=dilation[0])
    windows = g.view(windows, [a.sizes[0], groups, inner, count, taps])
    windows = part(g, windows, 3, 0, count, stride[0])
    weight = g.view(weight, [groups, outputs // groups, inner, taps])
    result = g.view(contract(g, ["bgilk", "goik"], [windows, weight], "bgol"), out.shape)
    return result if bias is None else g.elementwise("add", result, g.view(bias, [outputs, 1]))


def _running_sum(g, out, a, dimension, *, dtype=None):
    size, letters = a.sizes[dimension], string.ascii_lowercase[: len(a.sizes)]
    own = letters[dimension % len(letters)]
    mask = g.number(causal(g, size, size))
    return contract(g, [letters, "Z" + own], [a, mask], letters.replace(own, "Z"))


CONTRACTION = {
    _aten.linear.default: _linear,
    _aten.matmul.default: _matmul,
    _aten.mm.default: _matmul,
    _aten.bmm.default: _matmul,
    _aten.dot.default: _matmul,
    _aten.mv.default: _matmul,
    _aten.addmm.default: _add_matmul,
    _aten.baddbmm.default: _add_matmul,
    _aten.einsum.default: _einsum,
    _aten.conv1d.default: _convolution,
    _aten.conv1d.padding: _convolution,
    _aten.cumsum.default: _running_sum,
    _aten.scaled_dot_product_attention.default: _attention,
}
