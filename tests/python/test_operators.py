"""Every operator against PyTorch: value and gradients, through a real layer."""

import pytest
import torch
import torch.nn.functional as F
from growing import bring, document, expected, layer_of, randomise

import kasmina
from kasmina import Lifecycle

C = 4

# Nodes for a = x * x + 1.
POSITIVE = [("q", "mul", "x x"), ("one", "constant", "", {"value": 1.0}), ("a", "add", "q one")]

# Name: the parameters, the nodes, and the same in torch. `p` are the parameters by name.
CASES = {
    "linear": ({"w": (C, C), "b": (C,)}, [("y", "linear", "x w b")], lambda x, p: F.linear(x, p["w"], p["b"])),
    "linear without bias": ({"w": (C, C)}, [("y", "linear", "x w")], lambda x, p: F.linear(x, p["w"])),
    "add": ({"w": (C,)}, [("y", "add", "x w")], lambda x, p: x + p["w"]),
    "add of a number": ({"w": ()}, [("y", "add", "x w")], lambda x, p: x + p["w"]),
    "sub": ({"w": (C,)}, [("y", "sub", "w x")], lambda x, p: p["w"] - x),
    "mul": ({"w": (C,)}, [("y", "mul", "x w")], lambda x, p: x * p["w"]),
    "mul by itself": ({}, [("y", "mul", "x x")], lambda x, p: x * x),
    "div": (
        {"w": (C,)},
        [("s", "mul", "w w"), ("one", "constant", "", {"value": 1.0}), ("d", "add", "s one"), ("y", "div", "x d")],
        lambda x, p: x / (p["w"] * p["w"] + 1),
    ),
    "neg": ({}, [("y", "neg", "x")], lambda x, p: -x),
    "abs": ({}, [("y", "abs", "x")], lambda x, p: x.abs()),
    "exp": ({"w": (C,)}, [("e", "exp", "x"), ("y", "mul", "e w")], lambda x, p: x.exp() * p["w"]),
    "log": (
        {"w": (C,)},
        [*POSITIVE, ("l", "log", "a"), ("y", "mul", "l w")],
        lambda x, p: (x * x + 1).log() * p["w"],
    ),
    "sqrt": (
        {},
        [*POSITIVE, ("y", "sqrt", "a")],
        lambda x, p: (x * x + 1).sqrt(),
    ),
    "rsqrt": (
        {},
        [*POSITIVE, ("y", "rsqrt", "a")],
        lambda x, p: (x * x + 1).rsqrt(),
    ),
    "erf": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "erf", "s")], lambda x, p: torch.erf(x * p["w"])),
    "relu": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "relu", "s")], lambda x, p: F.relu(x * p["w"])),
    "gelu": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "gelu", "s")], lambda x, p: F.gelu(x * p["w"])),
    "gelu with tanh": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("y", "gelu", "s", {"approximate": "tanh"})],
        lambda x, p: F.gelu(x * p["w"], approximate="tanh"),
    ),
    "silu": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "silu", "s")], lambda x, p: F.silu(x * p["w"])),
    "tanh": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "tanh", "s")], lambda x, p: torch.tanh(x * p["w"])),
    "sigmoid": ({"w": (C,)}, [("s", "mul", "x w"), ("y", "sigmoid", "s")], lambda x, p: torch.sigmoid(x * p["w"])),
    "layer_norm": (
        {"w": (C,), "b": (C,)},
        [("y", "layer_norm", "x w b", {"eps": 1e-3})],
        lambda x, p: F.layer_norm(x, (C,), p["w"], p["b"], 1e-3),
    ),
    "rms_norm": (
        {"w": (C,)},
        [("y", "rms_norm", "x w", {"eps": 1e-3})],
        lambda x, p: F.rms_norm(x, (C,), p["w"], 1e-3),
    ),
    "sum": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("t", "sum", "s", {"axes": [0], "keep": True}), ("y", "mul", "x t")],
        lambda x, p: x * (x * p["w"]).sum(-1, keepdim=True),
    ),
    "mean": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("t", "mean", "s", {"axes": [0], "keep": True}), ("y", "mul", "x t")],
        lambda x, p: x * (x * p["w"]).mean(-1, keepdim=True),
    ),
    "max": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("t", "max", "s", {"axes": [0], "keep": True}), ("y", "mul", "x t")],
        lambda x, p: x * (x * p["w"]).amax(-1, keepdim=True),
    ),
    "softmax of the row": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("t", "softmax", "s"), ("y", "mul", "x t")],
        lambda x, p: x * (x * p["w"]).softmax(-1),
    ),
    "softmax of parameters": (
        {"w": (C,)},
        [("t", "softmax", "w"), ("y", "mul", "x t")],
        lambda x, p: x * p["w"].softmax(-1),
    ),
    "reshape": (
        {"w": (2, 2)},
        [("r", "reshape", "x", {"shape": [2, 2]}), ("s", "linear", "r w"), ("y", "reshape", "s", {"shape": [C]})],
        lambda x, p: F.linear(x.unflatten(-1, (2, 2)), p["w"]).flatten(-2),
    ),
    "permute": (
        {"w": (2, 2)},
        [
            ("r", "reshape", "x", {"shape": [2, 2]}),
            ("t", "permute", "r", {"axes": [1, 0]}),
            ("s", "mul", "t w"),
            ("y", "reshape", "s", {"shape": [C]}),
        ],
        lambda x, p: (x.unflatten(-1, (2, 2)).transpose(-1, -2) * p["w"]).flatten(-2),
    ),
    "broadcast": (
        {"w": (1,)},
        [("s", "broadcast", "w", {"shape": [C]}), ("y", "mul", "x s")],
        lambda x, p: x * p["w"].expand(C),
    ),
    "where": (
        {"w": (C,)},
        [("c", "greater", "x w"), ("y", "where", "c x w")],
        lambda x, p: torch.where(x > p["w"], x, p["w"]),
    ),
    "equal": (
        {"w": (C,)},
        [("c", "equal", "x x"), ("y", "where", "c w x")],
        lambda x, p: torch.where(x == x, p["w"], x),
    ),
    "einsum": (
        {"w": (2, 2)},
        [
            ("r", "reshape", "x", {"shape": [2, 2]}),
            ("s", "einsum", "r w", {"equation": "ab,bc->ac"}),
            ("y", "reshape", "s", {"shape": [C]}),
        ],
        lambda x, p: torch.einsum("...ab,bc->...ac", x.unflatten(-1, (2, 2)), p["w"]).flatten(-2),
    ),
    "einsum over an axis of one": (
        {"w": (C, 1)},
        [("y", "einsum", "x w", {"equation": "a,am->a"})],
        lambda x, p: x * p["w"].sum(-1),
    ),
    "less": ({"w": (C,)}, [("c", "less", "x w"), ("y", "where", "c w x")], lambda x, p: torch.where(x < p["w"], p["w"], x)),
    "comparisons": (
        {"w": (C,)},
        [
            ("a", "less_equal", "x w"),
            ("b", "greater_equal", "x w"),
            ("e", "logical_and", "a b"),
            ("n", "not_equal", "x w"),
            ("any", "logical_or", "e n"),
            ("none", "logical_not", "any"),
            ("v", "where", "none x w"),
            ("y", "add", "v x"),
        ],
        lambda x, p: p["w"] + x,
    ),
    "maximum and minimum": (
        {"w": (C,)},
        [("a", "maximum", "x w"), ("b", "minimum", "x w"), ("y", "sub", "a b")],
        lambda x, p: torch.maximum(x, p["w"]) - torch.minimum(x, p["w"]),
    ),
    "min": (
        {},
        [("t", "min", "x", {"axes": [0], "keep": True}), ("y", "mul", "x t")],
        lambda x, p: x * x.amin(-1, keepdim=True),
    ),
    "pow": (
        {"w": (C,)},
        [*POSITIVE, ("y", "pow", "a w")],
        lambda x, p: (x * x + 1) ** p["w"],
    ),
    "sin and cos": (
        {"w": (C,)},
        [("s", "sin", "x"), ("k", "cos", "w"), ("y", "mul", "s k")],
        lambda x, p: x.sin() * p["w"].cos(),
    ),
    "floor": ({}, [("f", "floor", "x"), ("y", "sub", "x f")], lambda x, p: x - x.floor()),
    "index": (
        {},
        [("i", "index", "", {"count": C}), ("y", "mul", "x i")],
        lambda x, p: x * torch.arange(C, dtype=x.dtype, device=x.device),
    ),
    "matmul": (
        {"w": (2, 2)},
        [
            ("r", "reshape", "x", {"shape": [2, 2]}),
            ("m", "matmul", "r w"),
            ("n", "matmul", "w m"),
            ("y", "reshape", "n", {"shape": [C]}),
        ],
        lambda x, p: (p["w"] @ (x.unflatten(-1, (2, 2)) @ p["w"])).flatten(-2),
    ),
    "low_rank_linear": (
        {"d": (2, C), "u": (C, 2), "b": (C,)},
        [("y", "low_rank_linear", "x d u b")],
        lambda x, p: F.linear(F.linear(x, p["d"]), p["u"], p["b"]),
    ),
    "group_norm": (
        {"w": (C,), "b": (C,)},
        [("y", "group_norm", "x w b", {"groups": 2, "eps": 1e-2})],
        lambda x, p: F.group_norm(x.reshape(-1, C), 2, p["w"], p["b"], 1e-2).reshape(x.shape),
    ),
    "glu": (
        {"w": (2 * C, C)},
        [("l", "linear", "x w"), ("y", "glu", "l", {"activation": "silu"})],
        lambda x, p: (lambda a, b: a * F.silu(b))(*F.linear(x, p["w"]).chunk(2, -1)),
    ),
    "rope": (
        {"w": (C,)},
        [
            ("s", "mul", "x w"),
            ("r", "reshape", "s", {"shape": [2, 2]}),
            ("t", "rope", "r", {"base": 100.0, "offset": 1}),
            ("y", "reshape", "t", {"shape": [C]}),
        ],
        lambda x, p: torch.view_as_real(
            torch.view_as_complex((x * p["w"]).unflatten(-1, (2, 2)).contiguous())
            * torch.polar(torch.ones(2, dtype=x.dtype), torch.arange(1, 3, dtype=x.dtype)).to(x.device)
        ).flatten(-2),
    ),
    "top_k": (
        {"w": (C,)},
        [("s", "mul", "x w"), ("t", "top_k", "s", {"k": 2}), ("u", "sum", "t"), ("y", "mul", "x u")],
        lambda x, p: x * (x * p["w"]).topk(2).values.sum(-1, keepdim=True),
    ),
    "conv1d": (
        {"w": (3,)},
        [("y", "conv1d", "x w")],
        lambda x, p: F.conv1d(F.pad(x.reshape(-1, 1, C), (2, 0)), p["w"][None, None]).reshape(x.shape),
    ),
    "conv1d of channels": (
        {"w": (2, 2, 3), "b": (2,)},
        [
            ("r", "reshape", "x", {"shape": [2, 2]}),
            ("c", "conv1d", "r w b", {"padding": "same"}),
            ("y", "reshape", "c", {"shape": [C]}),
        ],
        lambda x, p: F.conv1d(x.reshape(-1, 2, 2), p["w"], p["b"], padding="same").reshape(x.shape),
    ),
    "unfold": (
        {"w": (3,)},
        [("q", "pad", "x", {"before": 2}), ("u", "unfold", "q", {"size": 3}), ("y", "matmul", "u w")],
        lambda x, p: F.pad(x, (2, 0)).unfold(-1, 3, 1) @ p["w"],
    ),
    "slice, split and concat": (
        {},
        [
            ("a", "slice", "x", {"start": 0, "step": 2}),
            ("b", "split", "x", {"parts": 2, "index": 1}),
            ("m", "mul", "a b"),
            ("y", "concat", "m a"),
        ],
        lambda x, p: torch.cat([x[..., ::2] * x[..., 2:], x[..., ::2]], -1),
    ),
    "cast": (
        {"w": (C,)},
        [("h", "cast", "x", {"type": "bf16"}), ("s", "mul", "h w"), ("y", "cast", "s", {"type": "f16"})],
        lambda x, p: (x.bfloat16().to(x.dtype) * p["w"]).half().to(x.dtype),
    ),
    "whole numbers": (
        {},
        [
            ("k", "constant", "", {"value": 3.0}),
            ("s", "mul", "x k"),
            ("i", "cast", "s", {"type": "i32"}),
            ("q", "mul", "i i"),
            ("m", "max", "q", {"axes": [0], "keep": True}),
            ("n", "cast", "m", {"type": "f32"}),
            ("y", "mul", "x n"),
        ],
        lambda x, p: x * (x * 3).int().pow(2).amax(-1, keepdim=True),
    ),
    "taken": (
        {"w": (C,)},
        # The square root is NaN in the rows that do not take it, and so is its slope.
        [
            ("zero", "constant", "", {"value": 0.0}),
            ("c", "greater", "zero x"),
            ("t", "taken", "c x", {"when": False}),
            ("r", "sqrt", "t"),
            ("u", "taken", "c w", {"when": False}),
            ("s", "mul", "r u"),
            ("y", "where", "c x s"),
        ],
        lambda x, p: torch.where(x < 0, x, x.clamp(min=0).add((x < 0).to(x)).sqrt() * p["w"]),
    ),
}

TOLERANCE = {torch.float32: {"rtol": 2e-5, "atol": 2e-5}, torch.float64: {"rtol": 1e-11, "atol": 1e-11}}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f32", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_an_operator_and_its_gradients_are_those_of_torch(name, dtype, device):
    parameters, nodes, function = CASES[name]
    blueprint = kasmina.Blueprint.from_json(document(parameters, nodes, chunk=C))
    layer = layer_of([(blueprint, 2)], hidden=14, seeds=3, device=device, dtype=dtype)
    bring(layer, 1, Lifecycle.GRAFTING)
    randomise(layer)
    x = torch.randn(5, 3, 14, dtype=dtype, device=device, requires_grad=True)
    gradient = torch.randn_like(x)
    y = layer(x)
    y.backward(gradient)

    x_copy = x.detach().clone().requires_grad_()
    bank = layer.bank_0.detach().clone().requires_grad_()
    y_expected = expected(layer, x_copy, [(function, blueprint)], [bank], layer.array("alpha"))
    y_expected.backward(gradient)

    torch.testing.assert_close(y, y_expected, **TOLERANCE[dtype])
    torch.testing.assert_close(x.grad, x_copy.grad, **TOLERANCE[dtype])
    if parameters:
        # Gradients of parameters are sums over rows.
        torch.testing.assert_close(
            layer.bank_0.grad, bank.grad, rtol=TOLERANCE[dtype]["rtol"], atol=10 * TOLERANCE[dtype]["atol"]
        )
    assert not torch.equal(y, x), "a blueprint that changes nothing proves nothing"
