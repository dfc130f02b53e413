"""Writes operators.json: every operator, evaluated by PyTorch on small inputs, forward and backward, in f32 and f64.

Run it with a Python that has torch:  .venv/bin/python tests/data/make_operators.py
The same torch version writes the same bytes. `tests/rust/operators` reads it.

Each case is a blueprint f: [C] -> [C] with some rows x and the gradient dy of f(x). The results are f(x), the gradient
of x, and the gradient of the parameters, summed over rows and laid out as in a slot. Inputs are small multiples of
1/64, so they are the same numbers in f32.
"""

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
        return function(value, dim=axes, keepdim=attributes.get("keep", False)) if axes else value

    return apply


def last(value):
    return value.shape[-1:]


def unary(function):
    return lambda inputs, _: function(inputs[0])


def binary(function):
    return lambda inputs, _: function(*inputs)


OPERATORS = {
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


def main():
    generator = torch.Generator().manual_seed(20)
    written = []
    for case in cases():
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
