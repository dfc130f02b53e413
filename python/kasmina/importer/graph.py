"""A blueprint under construction: values, and the calls that make them.

What is imported sees a single row as a batch of one, so its tensors begin with axes of size 1. A blueprint knows no
rows; between calls every value here is without its leading axes of size 1 (*bare*), which changes neither the order of
its elements nor how it broadcasts. This module must know nothing of torch's operators.
"""

import dataclasses
import math
import re

import torch

# Letters of a name, at most (docs/blueprints.md).
_LONGEST_NAME = 64
# What numbers can be rounded to, and the types that are exact, as the library names them.
_ROUNDED = {torch.float16: "f16", torch.bfloat16: "bf16"}
_EXACT = {torch.bool: "bool", torch.int32: "i32", torch.int64: "i64"}


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of the blueprint, of some shape there, and the sizes and type of the tensor it stands for."""

    name: str
    shape: tuple
    sizes: tuple
    dtype: torch.dtype

    def axis(self, dimension):
        """Which axis of the blueprint's value this dimension of the tensor is; negative if it is not there."""
        return dimension % max(len(self.sizes), 1) - (len(self.sizes) - len(self.shape))


def bare(sizes):
    """Sizes without the leading ones."""
    sizes = tuple(sizes)
    first = next((position for position, size in enumerate(sizes) if size != 1), len(sizes))
    return sizes[first:]


class Graph:
    """Collects the nodes and parameters of a blueprint. `dtype` is that of the rows: numbers of it are not rounded."""

    def __init__(self, sizes, dtype):
        self.dtype = dtype
        self.x = Value("x", tuple(sizes[-1:]), tuple(sizes), dtype)
        self._nodes, self._parameters = [], []
        self._names = {"x"}
        self._known = {}
        self._hint = "v"

    def parameter(self, name, tensor):
        """A parameter that starts as this tensor."""
        name, shape = self._unique(name), tuple(tensor.shape)
        self._parameters.append({"name": name, "shape": list(shape), "initializer": _initializer(tensor)})
        return self.view(Value(name, shape, shape, self.dtype), shape)

    def named_after(self, name):
        """Nodes that are made from now on are named after this."""
        self._hint = name

    def call(self, operator, inputs, shape, dtype=None, /, **attributes):
        """A call of an operator of the library, whose result has this shape. The same call twice is one node."""
        names = [value.name for value in inputs]
        key = (operator, *names, repr(sorted(attributes.items())))
        # Each call of dropout draws numbers of its own.
        if operator == "dropout" or key not in self._known:
            self._known[key] = self._unique(self._hint)
            entry = {"name": self._known[key], "op": operator, "inputs": names, "attributes": attributes}
            self._nodes.append(entry)
        return Value(self._known[key], tuple(shape), tuple(shape), dtype or self.dtype)

    def elementwise(self, operator, *inputs, dtype=None):
        """A call of an operator on broadcast inputs: values of numbers, or Python numbers."""
        inputs = [self.number(value) for value in inputs]
        return self.call(operator, inputs, torch.broadcast_shapes(*(value.shape for value in inputs)), dtype)

    def constant(self, number):
        """A number as a value. An infinity is made of the logarithm of zero: the numbers in a blueprint are finite."""
        number = float(number)
        if math.isnan(number):
            raise ValueError("a blueprint cannot hold the number NaN")
        if math.isinf(number):
            infinity = self.elementwise("log", 0.0)
            return infinity if number < 0 else self.elementwise("neg", infinity)
        return self.call("constant", [], (), value=number)

    def number(self, value):
        """A value, or a Python number, as numbers of the type that the blueprint computes in."""
        if not isinstance(value, Value):
            return self.constant(value)
        return value if value.dtype.is_floating_point else self.cast(value, self.dtype)

    def cast(self, value, dtype):
        """A value in another type. Numbers of less precision than the rows have are numbers that were rounded."""
        if value.dtype == dtype:
            return value
        if dtype.is_floating_point and not value.dtype.is_floating_point:
            value = self.call("cast", [value], value.shape, type="f32")
        if dtype.is_floating_point:
            rounds = dtype in _ROUNDED and dtype != self.dtype
            return self.call("cast", [value], value.shape, dtype, type=_ROUNDED[dtype]) if rounds else value
        if dtype not in _EXACT:
            raise ValueError(f"a blueprint has no values of {dtype}")
        return self.call("cast", [value], value.shape, dtype, type=_EXACT[dtype])

    def view(self, value, sizes):
        """The same elements, in order, for a tensor of these sizes; bare."""
        shape = bare(sizes)
        if value.shape != shape:
            value = self.call("reshape", [value], shape, value.dtype, shape=list(shape))
        return dataclasses.replace(value, sizes=tuple(sizes))

    def full(self, value, rank=None):
        """A value with at least the last `rank` dimensions of its tensor (by default all), those of size 1 as well."""
        count = max(len(value.shape), len(value.sizes) if rank is None else rank)
        shape = value.sizes[len(value.sizes) - count :]
        if value.shape == shape:
            return value
        found = self.call("reshape", [value], shape, value.dtype, shape=list(shape))
        return dataclasses.replace(found, sizes=value.sizes)

    def expand(self, value, sizes):
        """A value repeated to larger sizes."""
        shape = bare(sizes)
        if value.shape != shape:
            value = self.call("broadcast", [value], shape, value.dtype, shape=list(shape))
        return dataclasses.replace(value, sizes=tuple(sizes))

    def permute(self, value, order):
        """A value with the dimensions of its tensor in another order."""
        large = [axis for axis, size in enumerate(value.sizes) if size != 1]
        axes = [large.index(axis) for axis in order if value.sizes[axis] != 1]
        sizes = [value.sizes[axis] for axis in order]
        if axes != sorted(axes):
            packed = self.view(value, [value.sizes[axis] for axis in large])
            value = self.call("permute", [packed], [packed.shape[axis] for axis in axes], value.dtype, axes=axes)
        return self.view(value, sizes)

    def document(self, name, output, metadata):
        """The blueprint as the object of its JSON, without parameters that the output does not depend on."""
        needed = {output.name}
        for node in reversed(self._nodes):
            if node["name"] in needed:
                needed.update(node["inputs"])
        return {
            "ir_version": 1,
            "name": re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_LONGEST_NAME],
            "chunk": self.x.shape[-1],
            "parameters": [entry for entry in self._parameters if entry["name"] in needed],
            "nodes": [entry for entry in self._nodes if entry["name"] in needed],
            "output": output.name,
            "metadata": metadata,
        }

    def _unique(self, name):
        name = re.sub(r"\W", "_", name, flags=re.ASCII)[8 - _LONGEST_NAME :]
        name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found


def _initializer(tensor):
    """What starts a parameter at these numbers, in as few digits as say them."""
    if not tensor.isfinite().all():
        raise ValueError("a parameter of a blueprint cannot start with numbers that are not finite")
    for name, number in (("zeros", 0), ("ones", 1)):
        if tensor.eq(number).all():
            return name
    numbers = tensor.detach().cpu().flatten()
    if tensor.dtype == torch.float64:
        return {"values": numbers.tolist()}
    # 0.1 in float32 is written as 0.1, which is the same number there.
    return {"values": [float(str(number)) for number in numbers.float().numpy()]}
