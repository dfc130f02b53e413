"""A blueprint as a torch module of ATen operators: what the library computes, said by somebody else.

One table says which torch function each operator is; `Reference` runs a graph by it. This module must know nothing of
layers, kernels or banks, so that agreeing with it means something.
"""

import json

import torch
import torch.nn.functional as F

from .blueprint import Blueprint


def to_module(blueprint, chunk=None, *, random_seed=0):
    """A blueprint as a `torch.nn.Module` of ATen operators, the reverse of `from_module`.

    `blueprint` is a `Blueprint`, its JSON (text, bytes or the object), or the name of one in the library, which also
    needs `chunk`. The module's parameters have the names of the blueprint's and start as `random_seed` says.
    """
    if isinstance(blueprint, str) and not blueprint.lstrip().startswith("{"):
        if chunk is None:
            raise TypeError(f"kasmina: the library blueprint {blueprint!r} needs a chunk width; pass `chunk`")
        blueprint = Blueprint.library(blueprint, chunk)
    elif not isinstance(blueprint, Blueprint):
        blueprint = Blueprint.from_json(blueprint)
    if chunk not in (None, blueprint.chunk):
        raise ValueError(f"kasmina: the blueprint is for chunks of {blueprint.chunk} channels, not {chunk}")
    return Reference(blueprint, random_seed)


class Reference(torch.nn.Module):
    """What a blueprint computes for rows `[..., chunk]`, in plain torch and differentiable by its autograd.

    Rows may be float64, float32, float16 or bfloat16. Like the library, it computes in float64 for float64 rows and in
    float32 for all others, and rounds once, at the end. It has no fallback: what is not finite comes out as it is.
    """

    def __init__(self, blueprint, random_seed=0):
        super().__init__()
        document = json.loads(blueprint.to_json())
        self.chunk = blueprint.chunk
        self.name, self.output = document["name"], document["output"]
        self.nodes = _needed(document["nodes"], self.output)
        initial, offset = blueprint.initial_values(random_seed), 0
        for entry in document["parameters"]:
            size = torch.Size(entry["shape"]).numel()
            values = torch.tensor(initial[offset : offset + size], dtype=torch.float64).view(entry["shape"])
            # Not `register_parameter`, which refuses names that modules use themselves.
            self._parameters[entry["name"]] = torch.nn.Parameter(values.to(torch.get_default_dtype()))
            offset += size

    def forward(self, x):
        """f(x) for every row of x."""
        if x.shape[-1:] != (self.chunk,):
            raise ValueError(f"kasmina: x has shape {list(x.shape)}; the blueprint needs [..., {self.chunk}]")
        compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        parameters = {name: parameter.to(compute) for name, parameter in self._parameters.items()}
        rows = x.to(compute).reshape(-1, self.chunk)
        # A blueprint is a function of one row: so it is written, and mapped over the rows.
        return torch.vmap(lambda row: self._row(row, parameters))(rows).reshape(x.shape).to(x.dtype)

    def _row(self, row, parameters):
        values = {"x": row, **parameters}
        for node in self.nodes:
            inputs = [values[name] for name in node["inputs"]]
            if node["op"] == "constant":
                value = row.new_tensor(node["attributes"]["value"])
            else:
                value = OPERATORS[node["op"]](*inputs, **node.get("attributes", {}))
            values[node["name"]] = value
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


def _over_axes(function):
    """A reduction: no axes named means all of them, and a single number has none."""

    def reduce(a, axes, keep):
        axes = axes or list(range(a.dim()))
        return function(a, axes, keep) if axes else a

    return reduce


def _over_last_axis(function):
    def normalise(a, *affine, eps):
        return function(a, a.shape[-1:], *affine, eps=eps)

    return normalise


# Each operator on one row, as torch has it. `constant` is in `Reference`, which knows the data type.
OPERATORS = {
    "abs": torch.abs,
    "add": torch.add,
    "broadcast": lambda a, shape: a.expand(shape),
    "div": torch.div,
    "einsum": lambda a, b, equation: torch.einsum(equation, a, b),
    "equal": torch.eq,
    "erf": torch.erf,
    "exp": torch.exp,
    "gelu": F.gelu,
    "greater": torch.gt,
    "layer_norm": _over_last_axis(F.layer_norm),
    "linear": F.linear,
    "log": torch.log,
    "max": _over_axes(torch.amax),
    "mean": _over_axes(torch.mean),
    "mul": torch.mul,
    "neg": torch.neg,
    "permute": lambda a, axes: a.permute(axes),
    "relu": torch.relu,
    "reshape": lambda a, shape: a.reshape(shape),
    "rms_norm": _over_last_axis(F.rms_norm),
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softmax": lambda a, axis: a.softmax(axis),
    "sqrt": torch.sqrt,
    "sub": torch.sub,
    "sum": _over_axes(torch.sum),
    "tanh": torch.tanh,
    "where": torch.where,
}
