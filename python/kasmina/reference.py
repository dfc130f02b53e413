"""A blueprint as a torch module of ATen operators: what the library computes, said by somebody else.

One table says which torch function each operator is; `Reference` runs a graph by it. This module must know nothing of
layers, kernels or banks, so that agreeing with it means something.
"""

import dataclasses
import json

import torch
import torch.nn.functional as F

from .blueprint import Blueprint
from .philox import uniform


def to_module(blueprint, chunk=None, *, random_seed=0, dtype=torch.float32):
    """A blueprint as a `torch.nn.Module` of ATen operators, the reverse of `from_module`.

    `blueprint` is a `Blueprint`, its JSON (text, bytes or the object), or the name of one in the library, which also
    needs `chunk`. The module's parameters have the names of the blueprint's and this type, and start as in a seed whose
    random numbers come from `random_seed`.
    """
    if isinstance(blueprint, str) and not blueprint.lstrip().startswith("{"):
        if chunk is None:
            raise TypeError(f"kasmina: the library blueprint {blueprint!r} needs a chunk width; pass `chunk`")
        blueprint = Blueprint.library(blueprint, chunk)
    elif not isinstance(blueprint, Blueprint):
        blueprint = Blueprint.from_json(blueprint)
    if chunk not in (None, blueprint.chunk):
        raise ValueError(f"kasmina: the blueprint is for chunks of {blueprint.chunk} channels, not {chunk}")
    return Reference(blueprint, random_seed, dtype)


class Reference(torch.nn.Module):
    """What a blueprint computes for rows `[..., chunk]`, in plain torch and differentiable by its autograd.

    Rows may be float64, float32, float16 or bfloat16. Like the library, it computes in float64 for float64 rows and in
    float32 for all others, and rounds once, at the end. It has no fallback: what is not finite comes out as it is.
    """

    def __init__(self, blueprint, random_seed=0, dtype=torch.float32):
        super().__init__()
        document = json.loads(blueprint.to_json())
        self.chunk = blueprint.chunk
        self.name, self.output = document["name"], document["output"]
        self.nodes = _needed(document["nodes"], self.output)
        initial, offset = blueprint.initial_values(random_seed), 0
        for entry in document["parameters"]:
            size = torch.Size(entry["shape"]).numel()
            values = torch.tensor(initial[offset : offset + size], dtype=dtype).view(entry["shape"])
            # Not `register_parameter`, which refuses names that modules use themselves.
            self._parameters[entry["name"]] = torch.nn.Parameter(values)
            offset += size

    def forward(self, x, random=None, seed=0):
        """f(x) for every row of x.

        With the `random` key of a launch and the number of a seed in its layer, dropout drops what it drops there;
        without a key it drops nothing.
        """
        if x.shape[-1:] != (self.chunk,):
            raise ValueError(f"kasmina: x has shape {list(x.shape)}; the blueprint needs [..., {self.chunk}]")
        compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        parameters = {name: parameter.to(compute) for name, parameter in self._parameters.items()}
        rows = x.to(compute).reshape(-1, self.chunk)

        # A blueprint is a function of one row: so it is written, and mapped over the rows.
        def of_row(row, number):
            return self._row(_Row(row, number, random, seed), parameters)

        numbers = torch.arange(len(rows), device=x.device)
        return torch.vmap(of_row)(rows, numbers).reshape(x.shape).to(x.dtype)

    def _row(self, row, parameters):
        values = {"x": row.x, **parameters}
        for node in self.nodes:
            inputs, attributes = [values[name] for name in node["inputs"]], node.get("attributes", {})
            if node["op"] in OF_ROW:
                values[node["name"]] = OF_ROW[node["op"]](row, *inputs, **attributes)
            else:
                values[node["name"]] = OPERATORS[node["op"]](*inputs, **attributes)
        return values[self.output]

    def extra_repr(self):
        return f"{self.name}: {self.chunk} channels, {len(self.nodes)} nodes"


def _needed(nodes, output):
    """The nodes that the output depends on."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if node["name"] in needed:
            needed.update(node["inputs"])
            kept.append(node)
    return kept[::-1]


@dataclasses.dataclass
class _Row:
    """The row that is computed: x, its number in the launch, and what dropout draws from."""

    x: torch.Tensor
    number: torch.Tensor
    random: int | None
    seed: int


def _over_axes(function):
    """A reduction: no axes named means all of them, and a single number has none."""

    def reduce(a, axes, keep):
        axes = axes or list(range(a.dim()))
        return function(a, axes, keep).to(a.dtype) if axes else a

    return reduce


def _over_last_axis(function):
    def normalise(a, *affine, eps):
        return function(a, a.shape[-1:], *affine, eps=eps)

    return normalise


def _pad(a, axis, before, behind, value):
    return F.pad(a, [0, 0] * (a.dim() - 1 - axis) + [before, behind], value=value)


def _unfold(a, axis, size, dilation):
    return a.unfold(axis, (size - 1) * dilation + 1, 1)[..., ::dilation]


def _conv1d(a, weight, bias=None, *, padding, dilation):
    reach = (weight.shape[-1] - 1) * dilation
    before = {"causal": reach, "same": reach // 2, "valid": 0}[padding]
    padded = F.pad(a, [before, 0 if padding == "valid" else reach - before])
    if weight.dim() > 1:
        return F.conv1d(padded[None], weight, bias, dilation=dilation)[0]
    # One row of taps, applied to each row of a.
    bias = None if bias is None else bias.reshape(1)
    found = F.conv1d(padded.reshape(-1, 1, padded.shape[-1]), weight[None, None], bias, dilation=dilation)
    return found.reshape(*a.shape[:-1], -1)


def _glu(a, axis, activation):
    value, gate = a.chunk(2, axis)
    functions = {"sigmoid": torch.sigmoid, "gelu": F.gelu, "silu": F.silu, "relu": F.relu, "identity": lambda b: b}
    return value * functions[activation](gate)


def _rope(a, base, offset, interleaved):
    positions, width = a.shape[-2:]
    frequencies = base ** (-2 * torch.arange(width // 2, device=a.device, dtype=a.dtype) / width)
    angles = (torch.arange(positions, device=a.device, dtype=a.dtype) + offset)[:, None] * frequencies
    pairs = a.unflatten(-1, (-1, 2)) if interleaved else a.unflatten(-1, (2, -1)).movedim(-2, -1)
    first, second = pairs.unbind(-1)
    turned = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    return torch.stack(turned, -1 if interleaved else -2).flatten(-2)


def _top_k(a, axis, k, output):
    values, indices = a.sort(dim=axis, descending=True, stable=True)
    if output == "mask":
        return indices.argsort(axis) < k
    return (values if output == "values" else indices).narrow(axis, 0, k)


def _taken(condition, a, when):
    condition, a = torch.broadcast_tensors(condition, a)
    return torch.where(condition if when else ~condition, a, a.detach())


def _constant(row, value):
    return row.x.new_tensor(value)


def _index(row, count):
    return torch.arange(count, device=row.x.device).to(row.x.dtype)


def _cast(row, a, type):
    to = {"f16": torch.float16, "bf16": torch.bfloat16, "i32": torch.int32, "i64": torch.int64, "bool": torch.bool}.get(
        type
    )
    if to is None or to.is_floating_point:
        return a.to(row.x.dtype) if to is None else a.to(to).to(row.x.dtype)
    if to == torch.bool or not a.dtype.is_floating_point:
        return a.to(to)
    limits = torch.iinfo(to)
    whole = torch.where(a.isfinite() & (a > float(limits.min)) & (a < float(limits.max)), a, 0).to(to)
    return torch.where(a >= float(limits.max), limits.max, torch.where(a <= float(limits.min), limits.min, whole)).to(
        to
    )


def _group_norm(a, weight=None, bias=None, *, groups, eps):
    """By hand: torch's own refuses groups of one element, and gradients that are not contiguous."""
    rows = a.reshape(groups, -1)
    centred = rows - rows.mean(-1, keepdim=True)
    normal = (centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt()).reshape(a.shape)
    of_channels = (-1,) + (1,) * (a.dim() - 1)
    if weight is not None:
        normal = normal * weight.reshape(of_channels)
    return normal if bias is None else normal + bias.reshape(of_channels)


def _dropout(row, a, p, stream):
    if row.random is None:
        return a
    kept = uniform(row.random, row.number, a.shape, row.seed, stream) >= p
    return a * torch.where(kept, 1 / (1 - p) if p < 1 else 0.0, 0.0).to(a.dtype)


# Each operator on one row, as torch has it.
OPERATORS = {
    "abs": torch.abs,
    "add": torch.add,
    "broadcast": lambda a, shape: a.expand(shape),
    "concat": lambda *inputs, axis: torch.cat(inputs, axis),
    "conv1d": _conv1d,
    "cos": torch.cos,
    "div": torch.div,
    "einsum": lambda a, b, equation: torch.einsum(equation, a, b),
    "equal": torch.eq,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "gelu": F.gelu,
    "glu": _glu,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "group_norm": _group_norm,
    "layer_norm": _over_last_axis(F.layer_norm),
    "less": torch.lt,
    "less_equal": torch.le,
    "linear": F.linear,
    "log": torch.log,
    "logical_and": torch.logical_and,
    "logical_not": torch.logical_not,
    "logical_or": torch.logical_or,
    "low_rank_linear": lambda a, down, up, *bias: F.linear(F.linear(a, down), up, *bias),
    "matmul": torch.matmul,
    "max": _over_axes(torch.amax),
    "maximum": torch.maximum,
    "mean": _over_axes(torch.mean),
    "min": _over_axes(torch.amin),
    "minimum": torch.minimum,
    "mul": torch.mul,
    "neg": torch.neg,
    "not_equal": torch.ne,
    "pad": _pad,
    "permute": lambda a, axes: a.permute(axes),
    "pow": torch.pow,
    "relu": torch.relu,
    "reshape": lambda a, shape: a.reshape(shape),
    "rms_norm": _over_last_axis(F.rms_norm),
    "rope": _rope,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sin": torch.sin,
    "slice": lambda a, axis, start, stop, step: torch.ops.aten.slice(a, axis, start, stop, step),
    "softmax": lambda a, axis: a.softmax(axis),
    "split": lambda a, axis, parts, index: a.chunk(parts, axis)[index],
    "sqrt": torch.sqrt,
    "sub": torch.sub,
    "sum": _over_axes(torch.sum),
    "taken": _taken,
    "tanh": torch.tanh,
    "top_k": _top_k,
    "unfold": _unfold,
    "where": torch.where,
}

# Those that also ask which row it is, and of which type.
OF_ROW = {"cast": _cast, "constant": _constant, "dropout": _dropout, "index": _index}
