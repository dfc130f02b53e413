"""Writes operators.json: every operator, evaluated by PyTorch on small inputs, forward and backward, in f32 and f64.

Run it with a Python that has torch:  .venv/bin/python tests/data/make_operators.py
The same torch version writes the same bytes. `tests/rust/operators` reads it.

Each case is a blueprint f: [C] -> [C] with some rows x and the gradient dy of f(x). The results are f(x), the gradient
of x, and the gradient of the parameters, summed over rows and laid out as in a slot. Inputs are small multiples of
1/64, so they are the same numbers in f32.
"""

import itertools
import json
import pathlib

import torch
import torch.nn.functional as F

ROWS = 2
# PyTorch's default eps of rms_norm for f32; ours for every type.
RMS_EPS = 2.0**-23


def reduction(function):
    def apply(inputs, attributes):
        (value,) = inputs
        axes = attributes.get("axes") or list(range(value.dim()))
        if not axes:
            return value
        result = function(value, dim=axes, keepdim=attributes.get("keep", False))
        return result.to(value.dtype)

    return apply


def last(value):
    return value.shape[-1:]


def unary(function):
    return lambda inputs, _: function(inputs[0])


def binary(function):
    return lambda inputs, _: function(*inputs)


def slice_(inputs, attributes):
    (value,) = inputs
    axis = attributes.get("axis", -1) % value.dim()
    index = slice(attributes.get("start", 0), attributes.get("stop"), attributes.get("step", 1))
    return value[(slice(None),) * axis + (index,)]


def pad(inputs, attributes):
    (value,) = inputs
    axis = attributes.get("axis", -1) % value.dim()
    sides = [0, 0] * (value.dim() - 1 - axis) + [attributes.get("before", 0), attributes.get("behind", 0)]
    return F.pad(value, sides, value=attributes.get("value", 0))


def unfold(inputs, attributes):
    (value,) = inputs
    axis, size, dilation = attributes.get("axis", -1), attributes["size"], attributes.get("dilation", 1)
    return value.unfold(axis, (size - 1) * dilation + 1, 1)[..., ::dilation]


def conv1d(inputs, attributes):
    value, weight, *bias = inputs
    dilation, padding = attributes.get("dilation", 1), attributes.get("padding", "causal")
    rows = weight.dim() == 1
    batch = value.reshape(-1, 1, value.shape[-1]) if rows else value[None]
    taps = weight[None, None] if rows else weight
    if padding == "causal":
        batch, padding = F.pad(batch, ((weight.shape[-1] - 1) * dilation, 0)), "valid"
    result = F.conv1d(batch, taps, *[part.reshape(-1) for part in bias], padding=padding, dilation=dilation)
    return result.reshape(*value.shape[:-1], -1) if rows else result[0]


def cast(inputs, attributes):
    (value,) = inputs
    types = {"i32": torch.int32, "i64": torch.int64, "bool": torch.bool, "f16": torch.float16, "bf16": torch.bfloat16}
    kind = attributes["type"]
    if kind == "f32":
        return value.to(NUMBER)
    return value.to(types[kind]).to(NUMBER) if kind.endswith("f16") else value.to(types[kind])


def top_k(inputs, attributes):
    (value,) = inputs
    axis, output = attributes.get("axis", -1), attributes.get("output", "values")
    values, indices = torch.sort(value, dim=axis, descending=True, stable=True)
    values, indices = (part.narrow(axis, 0, attributes["k"]) for part in (values, indices))
    mask = torch.zeros_like(value, dtype=torch.bool).scatter(axis, indices, True)
    return {"values": values, "indices": indices, "mask": mask}[output]


def rope(inputs, attributes):
    (value,) = inputs
    positions, n = value.shape[-2:]
    frequency = attributes.get("base", 10000.0) ** (-2 * torch.arange(n // 2, dtype=NUMBER) / n)
    position = torch.arange(positions, dtype=NUMBER) + attributes.get("offset", 0)
    turn = torch.polar(torch.ones(positions, n // 2, dtype=NUMBER), position[:, None] * frequency)
    if attributes.get("interleaved"):
        pairs = torch.view_as_complex(value.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)
    turned = torch.complex(*value.chunk(2, -1)) * turn
    return torch.cat([turned.real, turned.imag], -1)


def glu(inputs, attributes):
    axis = attributes.get("axis", -1)
    activation = attributes.get("activation", "sigmoid")
    value, gate = inputs[0].chunk(2, axis)
    functions = {"identity": lambda gate: gate, "sigmoid": torch.sigmoid}
    return value * functions.get(activation, getattr(F, activation, None))(gate)


def taken(inputs, attributes):
    condition, value = inputs
    return torch.where(condition == attributes.get("when", True), value, value.detach())


# The type of numbers in the evaluation that is running.
NUMBER = torch.float64

OPERATORS = {
    "index": lambda _, attributes: torch.arange(attributes["count"], dtype=NUMBER),
    "pow": binary(torch.pow),
    "maximum": binary(torch.maximum),
    "minimum": binary(torch.minimum),
    "min": reduction(torch.amin),
    "floor": unary(torch.floor),
    "sin": unary(torch.sin),
    "cos": unary(torch.cos),
    "less": binary(torch.lt),
    "less_equal": binary(torch.le),
    "greater_equal": binary(torch.ge),
    "not_equal": binary(torch.ne),
    "logical_and": binary(torch.logical_and),
    "logical_or": binary(torch.logical_or),
    "logical_not": unary(torch.logical_not),
    "taken": taken,
    "matmul": binary(torch.matmul),
    "low_rank_linear": lambda inputs, _: F.linear(F.linear(*inputs[:2]), *inputs[2:]),
    "group_norm": lambda inputs, attributes: F.group_norm(
        inputs[0][None], attributes["groups"], *inputs[1:], eps=attributes.get("eps", 1e-5)
    )[0],
    "glu": glu,
    "top_k": top_k,
    "rope": rope,
    "conv1d": conv1d,
    "unfold": unfold,
    "slice": slice_,
    "split": lambda inputs, attributes: inputs[0].chunk(attributes["parts"], attributes.get("axis", -1))[
        attributes["index"]
    ],
    "concat": lambda inputs, attributes: torch.cat(inputs, attributes.get("axis", -1)),
    "pad": pad,
    "cast": cast,
    # Without a key of random numbers nothing is dropped; what happens with one is tested elsewhere.
    "dropout": unary(lambda value: value),
    "linear": binary(F.linear),
    "add": binary(torch.add),
    "sub": binary(torch.sub),
    "mul": binary(torch.mul),
    "div": binary(torch.div),
    "neg": unary(torch.neg),
    "exp": unary(torch.exp),
    "log": unary(torch.log),
    "sqrt": unary(torch.sqrt),
    "rsqrt": unary(torch.rsqrt),
    "abs": unary(torch.abs),
    "erf": unary(torch.erf),
    "relu": unary(torch.relu),
    "gelu": lambda inputs, attributes: F.gelu(inputs[0], approximate=attributes.get("approximate", "none")),
    "silu": unary(F.silu),
    "tanh": unary(torch.tanh),
    "sigmoid": unary(torch.sigmoid),
    "layer_norm": lambda inputs, attributes: F.layer_norm(
        inputs[0], last(inputs[0]), *inputs[1:], eps=attributes.get("eps", 1e-5)
    ),
    "rms_norm": lambda inputs, attributes: F.rms_norm(
        inputs[0], last(inputs[0]), *inputs[1:], eps=attributes.get("eps", RMS_EPS)
    ),
    "sum": reduction(torch.sum),
    "mean": reduction(torch.mean),
    "max": reduction(torch.amax),
    "softmax": lambda inputs, attributes: torch.softmax(inputs[0], attributes.get("axis", -1)),
    "reshape": lambda inputs, attributes: inputs[0].reshape(attributes["shape"]),
    "permute": lambda inputs, attributes: inputs[0].permute(attributes["axes"]),
    "broadcast": lambda inputs, attributes: inputs[0].broadcast_to(attributes["shape"]),
    "greater": binary(torch.gt),
    "equal": binary(torch.eq),
    "where": binary(torch.where),
    "einsum": lambda inputs, attributes: torch.einsum(attributes["equation"], *inputs),
}


class Case:
    """A blueprint written down step by step; `x` is the chunk."""

    def __init__(self, name, chunk):
        self.name, self.chunk, self.parameters, self.nodes = name, chunk, [], []

    def parameter(self, *shape):
        name = f"p{len(self.parameters)}"
        self.parameters.append({"name": name, "shape": list(shape)})
        return name

    def op(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        node = {"name": name, "op": op, "inputs": list(inputs)}
        self.nodes.append(node | {"attributes": attributes} if attributes else node)
        return name

    def blueprint(self):
        return {
            "ir_version": 1,
            "name": self.name,
            "chunk": self.chunk,
            "parameters": self.parameters,
            "nodes": self.nodes,
            "output": self.nodes[-1]["name"],
        }

    def evaluate(self, x, slot, dy, dtype):
        """f(x), dx and the gradient of the slot, as PyTorch has them in this type."""
        global NUMBER
        NUMBER = dtype
        x = x.to(dtype).requires_grad_()
        values, first = {}, 0
        for parameter in self.parameters:
            shape = parameter["shape"]
            count = torch.Size(shape).numel()
            values[parameter["name"]] = slot[first : first + count].reshape(shape).to(dtype).requires_grad_()
            first += count
        parameters = list(values.values())
        rows = []
        for row in x:
            values["x"] = row
            for node in self.nodes:
                if node["op"] == "constant":
                    value = torch.tensor(node["attributes"]["value"], dtype=dtype)
                else:
                    inputs = [values[name] for name in node["inputs"]]
                    value = OPERATORS[node["op"]](inputs, node.get("attributes", {}))
                values[node["name"]] = value
            rows.append(values[self.nodes[-1]["name"]])
        y = torch.stack(rows)
        gradients = torch.autograd.grad(y, [x, *parameters], dy.to(dtype), allow_unused=True)
        zeros = [torch.zeros_like(value) for value in [x, *parameters]]
        dx, *dp = [zero if gradient is None else gradient for gradient, zero in zip(gradients, zeros)]
        flat = torch.cat([gradient.flatten() for gradient in dp]) if dp else torch.zeros(0)
        return {"y": numbers(y), "dx": numbers(dx), "dp": numbers(flat)}


def numbers(tensor):
    """Shortest decimals that give the same numbers back."""
    if tensor.dtype == torch.float32:
        return [float(str(number)) for number in tensor.detach().flatten().numpy()]
    return tensor.detach().flatten().tolist()


def cases():
    for op in ["neg", "exp", "abs", "erf", "relu", "gelu", "silu", "tanh", "sigmoid"]:
        case = Case(op, 6)
        case.op(op, case.op("mul", "x", case.parameter(6)))
        yield case
    case = Case("gelu_tanh", 6)
    case.op("gelu", case.op("mul", "x", case.parameter(6)), approximate="tanh")
    yield case
    for op in ["log", "sqrt", "rsqrt"]:
        case = Case(op, 6)
        positive = case.op("abs", case.op("mul", "x", case.parameter(6)))
        case.op(op, case.op("add", positive, case.op("constant", value=0.25)))
        yield case
    for op in ["add", "sub", "mul", "div"]:
        for shape in [[], [1], [3], [2, 1], [2, 3]]:
            case = Case(f"{op}_{'x'.join(map(str, shape)) or 'number'}", 6)
            matrix = case.op("reshape", "x", shape=[2, 3])
            parameter = case.parameter(*shape)
            once = case.op(op, matrix, parameter)
            case.op("reshape", case.op(op, parameter, once), shape=[6])
            yield case
    for bias in [False, True]:
        case = Case("linear_bias" if bias else "linear", 6)
        case.op("linear", "x", case.parameter(6, 6), *([case.parameter(6)] if bias else []))
        yield case
        case = Case("linear_of_rows_bias" if bias else "linear_of_rows", 6)
        matrix = case.op("reshape", "x", shape=[3, 2])
        inner = case.op("linear", matrix, case.parameter(4, 2), *([case.parameter(4)] if bias else []))
        case.op("reshape", case.op("linear", inner, case.parameter(2, 4)), shape=[6])
        yield case
    for op, most in [("layer_norm", 2), ("rms_norm", 1)]:
        for count in range(most + 1):
            case = Case(f"{op}_{count}", 6)
            case.op(op, "x", *[case.parameter(6) for _ in range(count)], eps=0.01)
            yield case
            case = Case(f"{op}_of_rows_{count}", 8)
            matrix = case.op("reshape", "x", shape=[2, 4])
            case.op("reshape", case.op(op, matrix, *[case.parameter(4) for _ in range(count)]), shape=[8])
            yield case
    for op in ["sum", "mean", "max"]:
        for axes in [[], [0], [-1], [0, 2], [2, 1]]:
            for keep in [False, True]:
                name = "".join(map(str, axes)).replace("-", "m") or "all"
                case = Case(f"{op}_{name}{'_keep' if keep else ''}", 12)
                cube = case.op("reshape", case.op("mul", "x", case.parameter(12)), shape=[2, 3, 2])
                reduced = case.op(op, cube, axes=axes, keep=keep)
                if not keep:
                    gone = [axis % 3 for axis in axes] or [0, 1, 2]
                    kept = [1 if axis in gone else size for axis, size in enumerate([2, 3, 2])]
                    reduced = case.op("reshape", reduced, shape=kept)
                case.op("reshape", case.op("mul", cube, reduced), shape=[12])
                yield case
    case = Case("max_of_ties", 6)
    twice = case.op("broadcast", "x", shape=[2, 6])
    case.op("mul", "x", case.op("max", twice))
    yield case
    for axis in [0, 1, -1]:
        case = Case(f"softmax_{str(axis).replace('-', 'm')}", 12)
        cube = case.op("reshape", case.op("mul", "x", case.parameter(12)), shape=[2, 3, 2])
        case.op("reshape", case.op("softmax", cube, axis=axis), shape=[12])
        yield case
    case = Case("softmax_of_a_parameter", 6)
    case.op("mul", "x", case.op("softmax", case.parameter(6)))
    yield case
    case = Case("permute", 12)
    cube = case.op("reshape", "x", shape=[2, 3, 2])
    turned = case.op("permute", cube, axes=[2, 0, -2])
    case.op("reshape", case.op("mul", turned, case.parameter(2, 2, 3)), shape=[12])
    yield case
    case = Case("broadcast", 6)
    wide = case.op("broadcast", case.op("mul", case.parameter(3), case.op("sum", "x")), shape=[2, 3])
    case.op("reshape", case.op("mul", wide, wide), shape=[6])
    yield case
    for op in ["greater", "equal"]:
        case = Case(f"where_{op}", 6)
        matrix = case.op("reshape", "x", shape=[2, 3])
        gate = case.op("relu", matrix)
        condition = case.op(op, gate, case.op("constant", value=0))
        other = case.op("mul", matrix, case.parameter(3))
        chosen = case.op("where", condition, case.parameter(2, 1), other)
        case.op("reshape", chosen, shape=[6])
        yield case
    equations = [
        ("ij,jk->ik", [2, 3], [3, 3]),
        ("ij,kj->ki", [2, 3], [3, 3]),
        ("ij,ij->ji", [2, 3], [2, 3]),
        ("ij,k->jk", [3, 2], [3]),
        ("i,->i", [6], []),
        ("i,j->j", [6], [6]),
        ("bij,bjk->bik", [2, 1, 3], [2, 3, 3]),
    ]
    for equation, first, second in equations:
        case = Case(f"einsum_{equation.replace(',', '_').replace('->', '_')}", 6)
        value = case.op("reshape", "x", shape=first) if first != [6] else "x"
        product = case.op("einsum", value, case.parameter(*second), equation=equation)
        case.op("reshape", product, shape=[6])
        yield case


def more_cases():
    """Operators that come in more than one shape, type or way."""

    def case_of(name, chunk, build):
        case = Case(name, chunk)
        build(case)
        return case

    for op in ["sin", "cos"]:
        yield case_of(op, 6, lambda case: case.op(op, case.op("mul", "x", case.parameter(6))))
    yield case_of("floor", 6, lambda case: case.op("mul", "x", case.op("floor", case.op("mul", "x", case.parameter(6)))))
    for op in ["maximum", "minimum"]:
        for shape in [[], [3], [2, 3]]:
            case = Case(f"{op}_{'x'.join(map(str, shape)) or 'number'}", 6)
            matrix = case.op("reshape", "x", shape=[2, 3])
            case.op("reshape", case.op(op, matrix, case.parameter(*shape)), shape=[6])
            yield case
        yield case_of(f"{op}_of_ties", 6, lambda case: case.op(op, "x", case.op("neg", case.op("abs", "x"))))
    # Positive, negative and zero bases; whole and broken powers.
    case = Case("pow", 6)
    base = case.op("add", case.op("abs", case.op("mul", "x", case.parameter(6))), case.op("constant", value=0.25))
    case.op("pow", base, case.parameter(6))
    yield case
    for power in [-1, 0, 1, 2, 3]:
        case = Case(f"pow_of_{str(power).replace('-', 'm')}", 6)
        case.op("pow", "x", case.op("constant", value=power))
        yield case
    for power in [0, 1, 2, 2.5]:
        case = Case(f"pow_at_zero_of_{str(power).replace('.', '_')}", 6)
        zero = case.op("relu", "x")
        case.op("add", "x", case.op("pow", zero, case.op("constant", value=power)))
        yield case
    case = Case("pow_of_zero_to_a_parameter", 6)
    power = case.op("abs", case.parameter(6))
    case.op("add", "x", case.op("pow", case.op("relu", "x"), power))
    yield case
    for axes in [[], [1], [0, 2]]:
        case = Case(f"min_{''.join(map(str, axes)) or 'all'}", 12)
        cube = case.op("reshape", case.op("mul", "x", case.parameter(12)), shape=[2, 3, 2])
        case.op("reshape", case.op("mul", cube, case.op("min", cube, axes=axes, keep=True)), shape=[12])
        yield case
    for op in ["less", "less_equal", "greater_equal", "not_equal"]:
        case = Case(f"where_{op}", 6)
        gate = case.op("relu", "x")
        condition = case.op(op, gate, case.op("constant", value=0))
        case.op("where", condition, case.op("mul", "x", case.parameter(6)), "x")
        yield case
    for op in ["logical_and", "logical_or", "equal", "not_equal"]:
        case = Case(f"where_{op}_of_truths", 6)
        positive = case.op("greater", "x", case.op("constant", value=0))
        large = case.op("greater", case.op("abs", "x"), case.op("abs", case.parameter(6)))
        case.op("where", case.op(op, positive, large), case.op("mul", "x", "x"), "x")
        yield case
    case = Case("where_logical_not", 6)
    case.op("where", case.op("logical_not", case.op("greater", "x", case.parameter(6))), case.op("exp", "x"), "x")
    yield case
    for when in [False, True]:
        for shape in [[], [6]]:
            case = Case(f"taken_{when}_{'elementwise' if shape else 'whole'}".lower(), 6)
            condition = case.op("greater", "x" if shape else case.op("sum", "x"), case.op("constant", value=0))
            value = case.op("taken", condition, case.parameter(*shape), when=when)
            case.op("mul", value, case.op("taken", condition, "x", when=when))
            yield case
    for first, second, name in [
        ([2, 3], [3, 3], "matrices"),
        ([6], [6, 6], "row"),
        ([6, 1], [1], "column"),
        ([6], [6], "numbers"),
        ([3, 1, 2], [2, 2], "batch_and_matrix"),
        ([2, 3], [4, 3, 2], "matrix_and_batch"),
        ([2, 1, 1, 3], [2, 3, 2], "batches"),
        ([3], [2, 3, 2], "row_and_batch"),
        ([2, 1, 3], [3], "batch_and_column"),
    ]:
        case = Case(f"matmul_{name}", torch.Size(first).numel())
        product = case.op("matmul", case.op("reshape", "x", shape=first), case.parameter(*second))
        case.op("mul", "x", case.op("sum", case.op("mul", product, product)))
        yield case
    case = Case("matmul_of_a_parameter_by_a_row", 6)
    product = case.op("matmul", case.parameter(2, 3), case.op("reshape", "x", shape=[3, 2]))
    case.op("mul", "x", case.op("sum", case.op("mul", product, product)))
    yield case
    for bias in [False, True]:
        case = Case(f"low_rank_linear{'_bias' if bias else ''}", 6)
        weights = [case.parameter(2, 6), case.parameter(6, 2), *([case.parameter(6)] if bias else [])]
        case.op("low_rank_linear", "x", *weights)
        yield case
    for groups in [1, 2, 4]:
        for count in range(3):
            case = Case(f"group_norm_{groups}_{count}", 8)
            value = "x" if groups < 4 else case.op("reshape", "x", shape=[4, 2])
            channels = 8 if groups < 4 else 4
            result = case.op("group_norm", value, *[case.parameter(channels) for _ in range(count)], groups=groups, eps=0.01)
            if groups == 4:
                case.op("reshape", result, shape=[8])
            yield case
    for activation in ["sigmoid", "gelu", "silu", "relu", "identity"]:
        case = Case(f"glu_{activation}", 6)
        case.op("glu", case.op("linear", "x", case.parameter(12, 6)), activation=activation)
        yield case
    case = Case("glu_axis", 8)
    half = case.op("glu", case.op("reshape", "x", shape=[4, 2]), axis=0)
    case.op("reshape", case.op("concat", half, case.op("mul", half, half), axis=0), shape=[8])
    yield case
    for interleaved in [False, True]:
        case = Case(f"rope{'_interleaved' if interleaved else ''}", 12)
        rows = case.op("reshape", case.op("mul", "x", case.parameter(12)), shape=[3, 4])
        turned = case.op("rope", rows, base=100.0, offset=2, interleaved=interleaved)
        case.op("reshape", turned, shape=[12])
        yield case
    for output in ["values", "indices", "mask"]:
        for axis, k in [(0, 1), (0, 2), (-1, 2), (-1, 3)]:
            case = Case(f"top_k_{output}_{k}_of_axis_{axis % 2}", 6)
            matrix = case.op("reshape", case.op("mul", "x", case.parameter(6)), shape=[2, 3])
            found = case.op("top_k", matrix, axis=axis, k=k, output=output)
            if output != "values":
                found = case.op("cast", found, type="f32")
            case.op("mul", "x", case.op("sum", case.op("mul", found, found)))
            yield case
    case = Case("top_k_of_ties", 6)
    chosen = case.op("cast", case.op("top_k", case.op("relu", "x"), k=4, output="mask"), type="f32")
    case.op("mul", "x", chosen)
    yield case
    for padding in ["causal", "same", "valid"]:
        for dilation in [1, 2]:
            for bias in [False, True]:
                case = Case(f"conv1d_{padding}_{dilation}{'_bias' if bias else ''}", 12)
                value = case.op("reshape", "x", shape=[2, 6])
                weights = [case.parameter(3, 2, 3), *([case.parameter(3)] if bias else [])]
                result = case.op("conv1d", value, *weights, padding=padding, dilation=dilation)
                case.op("mul", "x", case.op("sum", case.op("mul", result, result)))
                yield case
    for padding in ["causal", "same"]:
        for taps in [1, 2, 4]:
            case = Case(f"conv1d_of_a_row_{padding}_{taps}", 6)
            case.op("conv1d", "x", case.parameter(taps), *([case.parameter()] if taps == 2 else []), padding=padding)
            yield case
    case = Case("conv1d_of_rows", 12)
    rows = case.op("reshape", "x", shape=[2, 6])
    case.op("reshape", case.op("conv1d", rows, case.parameter(3)), shape=[12])
    yield case
    for axis, size, dilation in [(0, 2, 1), (-1, 3, 1), (-1, 2, 2)]:
        case = Case(f"unfold_{axis % 2}_{size}_{dilation}", 12)
        rows = case.op("reshape", "x", shape=[3, 4])
        windows = case.op("unfold", rows, axis=axis, size=size, dilation=dilation)
        case.op("mul", "x", case.op("sum", case.op("mul", windows, windows)))
        yield case
    for axis, start, stop, step in [(0, 0, 2, 1), (0, 1, 4, 2), (-1, -2, 4, 1), (-1, 0, 4, 3), (-1, 1, 2, 1), (1, 0, -1, 2)]:
        case = Case(f"slice_{axis}_{start}_{stop}_{step}".replace("-", "m"), 16)
        part = case.op("slice", case.op("reshape", "x", shape=[4, 4]), axis=axis, start=start, stop=stop, step=step)
        case.op("mul", "x", case.op("sum", case.op("mul", part, part)))
        yield case
    case = Case("split", 6)
    a, b, c = (case.op("split", "x", parts=3, index=index) for index in range(3))
    case.op("concat", case.op("mul", a, c), case.op("exp", b), a)
    yield case
    case = Case("concat_inner", 12)
    rows = case.op("reshape", "x", shape=[3, 4])
    parts = [case.op("split", rows, axis=1, parts=2, index=index) for index in range(2)]
    both = case.op("concat", parts[1], case.op("mul", parts[0], case.parameter(3, 2)), axis=-1)
    case.op("reshape", both, shape=[12])
    yield case
    case = Case("concat_of_a_parameter_and_a_row", 6)
    whole = case.op("concat", case.parameter(2), case.op("slice", "x", stop=3), case.parameter(1))
    case.op("mul", whole, whole)
    yield case
    for axis, value in [(0, 0), (1, 0.5)]:
        case = Case(f"pad_{axis}_{str(value).replace('.', '_')}", 6)
        wide = case.op("pad", case.op("reshape", "x", shape=[2, 3]), axis=axis, before=1, behind=2, value=value)
        case.op("mul", "x", case.op("sum", case.op("mul", wide, case.op("exp", wide))))
        yield case
    case = Case("index", 6)
    case.op("mul", case.op("mul", "x", case.op("index", count=6)), case.parameter(6))
    yield case
    yield case_of("dropout_in_evaluation", 6, lambda case: case.op("dropout", case.op("mul", "x", "x"), p=0.25))
    for kind in ["f32", "f16", "bf16"]:
        case = Case(f"cast_{kind}", 6)
        rounded = case.op("cast", case.op("exp", "x"), type=kind)
        case.op("cast", case.op("mul", rounded, case.parameter(6)), type=kind)
        yield case
    case = Case("cast_bool", 6)
    case.op("mul", "x", case.op("cast", case.op("cast", case.op("relu", "x"), type="bool"), type="f32"))
    yield case
    for kind in ["i32", "i64"]:
        yield from whole_numbers(kind)


def whole_numbers(kind):
    """Arithmetic on whole numbers: 64 times the inputs, so that there is something to count."""

    def whole(case, value):
        return case.op("cast", case.op("mul", value, case.op("constant", value=64)), type=kind)

    def finish(case, result):
        case.op("mul", "x", case.op("cast", result, type="f32"))
        return case

    for op in ["add", "sub", "mul", "maximum", "minimum"]:
        case = Case(f"{op}_of_{kind}", 6)
        yield finish(case, case.op(op, whole(case, "x"), whole(case, case.parameter(6))))
    for op in ["neg", "abs"]:
        case = Case(f"{op}_of_{kind}", 6)
        yield finish(case, case.op(op, whole(case, "x")))
    for op in ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]:
        case = Case(f"{op}_of_{kind}", 6)
        value, other = whole(case, "x"), whole(case, "x" if op.endswith("equal") else case.parameter(6))
        yield finish(case, case.op(op, value, other))
    for op in ["sum", "max", "min"]:
        case = Case(f"{op}_of_{kind}", 6)
        yield finish(case, case.op(op, whole(case, "x")))
    case = Case(f"movement_of_{kind}", 6)
    matrix = case.op("reshape", whole(case, "x"), shape=[2, 3])
    turned = case.op("permute", matrix, axes=[1, 0])
    wide = case.op("pad", turned, axis=0, before=1, value=-7)
    part = case.op("slice", case.op("concat", wide, wide, axis=1), axis=1, step=2)
    chosen = case.op("where", case.op("greater", part, case.op("neg", part)), part, case.op("broadcast", case.op("max", part), shape=[4, 2]))
    yield finish(case, case.op("sum", chosen))
    other = {"i32": "i64", "i64": "i32"}[kind]
    case = Case(f"cast_{kind}_to_{other}", 6)
    yield finish(case, case.op("cast", case.op("cast", whole(case, "x"), type=other), type=kind))
    case = Case(f"cast_truth_to_{kind}", 6)
    yield finish(case, case.op("cast", case.op("greater", "x", case.parameter(6)), type=kind))


def main():
    generator = torch.Generator().manual_seed(20)
    written = []
    for case in itertools.chain(cases(), more_cases()):
        def draw(*shape):
            return torch.randint(-128, 129, shape, generator=generator).to(torch.float64) / 64

        slot = sum(torch.Size(parameter["shape"]).numel() for parameter in case.parameters)
        x, dy, parameters = draw(ROWS, case.chunk), draw(ROWS, case.chunk), draw(slot)
        # No divisor near zero.
        parameters = torch.where(parameters.abs() < 0.25, torch.full_like(parameters, 0.5), parameters)
        x = torch.where(x.abs() < 0.125, torch.full_like(x, 0.375), x)
        written.append(
            {
                "blueprint": case.blueprint(),
                "x": numbers(x),
                "dy": numbers(dy),
                "parameters": numbers(parameters),
                "f64": case.evaluate(x, parameters, dy, torch.float64),
                "f32": case.evaluate(x, parameters, dy, torch.float32),
            }
        )
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in written)
    text = f'{{"torch":"{torch.__version__}","rows":{ROWS},"cases":[\n{lines}\n]}}\n'
    path = pathlib.Path(__file__).with_name("operators.json")
    path.write_text(text)
    print(f"{len(written)} cases, {len(text)} bytes in {path}")


if __name__ == "__main__":
    main()
