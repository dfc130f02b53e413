"""A blueprint as a torch module: the same numbers and gradients as the library's, from torch alone."""

import copy
import json
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from grafted import give_parameters, grafted, run_layer, run_modules
from growing import document
from test_operators import CASES
from test_torch import LIBRARY

import kasmina
from kasmina.philox import philox
from kasmina.reference import OF_ROW, OPERATORS

# Put in by differentiation only; a blueprint cannot have it.
INTERNAL = {"row_sum"}


def operators():
    """The names of the operators that the library knows."""
    with pytest.raises(kasmina.Error) as raised:
        kasmina.Blueprint.from_json(document({}, [("y", "no_such_operator", "x")]))
    return set(re.search(r"there are (.*)", str(raised.value)).group(1).split(", "))


def test_every_operator_of_the_library_has_a_reference():
    assert OPERATORS.keys() | OF_ROW.keys() == operators() - INTERNAL


def double(blueprint):
    return kasmina.to_module(blueprint, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_of_an_operator_is_what_torch_has(name):
    parameters, nodes, function = CASES[name]
    module = double(document(parameters, nodes))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    found, wanted = module(x), function(x, dict(module.named_parameters()))
    inputs = [x, *module.parameters()]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found.sin().sum(), inputs), torch.autograd.grad(wanted.sin().sum(), inputs)
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)],
    ids=["f64", "f32", "bf16", "f16"],
)
def test_a_layer_of_library_blueprints_computes_what_their_references_compute(dtype, tolerance, device):
    bank_type = torch.float64 if dtype == torch.float64 else torch.float32
    blueprints = [kasmina.Blueprint.library(name, 12) for name in LIBRARY]
    modules = [kasmina.to_module(blueprint).to(device, bank_type) for blueprint in blueprints]
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        torch.nn.init.normal_(parameter, std=0.5)
    layer = grafted(blueprints, device=device, dtype=bank_type, row_type=dtype)
    give_parameters(layer, modules)
    x = torch.randn(6, layer.hidden, dtype=dtype, device=device)
    gradient = torch.randn_like(x)
    torch.testing.assert_close(
        run_layer(layer, x, gradient), run_modules(modules, x, gradient), rtol=tolerance, atol=10 * tolerance
    )


def test_rows_are_never_taken_for_channels():
    # Three rows and a value of three by two: broadcasting must not mistake the one for the other.
    nodes = [
        ("r", "reshape", "x", {"shape": [3, 2]}),
        ("m", "mean", "r", {"axes": [0]}),
        ("s", "mul", "r m"),
        ("t", "sum", "s", {"axes": [1]}),
        ("u", "reshape", "t", {"shape": [3, 1]}),
        ("v", "mul", "u w"),
        ("y", "reshape", "v", {"shape": [6]}),
    ]
    module = double(document({"w": (2,)}, nodes, chunk=6))
    torch.nn.init.normal_(module.w)
    x = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.stack([module(row) for row in x]))


def test_parameters_start_as_in_a_seed_and_have_the_names_of_the_blueprint():
    entries = {
        "weight": ([2, 4], {"uniform": {"low": -2, "high": -1}}),
        "training": ([4], {"values": [1, 2, 3, 4]}),
        "scale": ([], {"constant": 0.5}),
    }
    text = document({name: shape for name, (shape, _) in entries.items()}, [])
    for entry in text["parameters"]:
        entry["initializer"] = entries[entry["name"]][1]
    text["nodes"] = [
        {"name": "h", "op": "linear", "inputs": ["x", "weight"]},
        {"name": "t", "op": "sum", "inputs": ["h"]},
        {"name": "u", "op": "mul", "inputs": ["t", "training"]},
        {"name": "y", "op": "mul", "inputs": ["u", "scale"]},
    ]
    blueprint = kasmina.Blueprint.from_json(text)
    module = kasmina.to_module(blueprint, random_seed=3)
    found = dict(module.named_parameters())
    assert {name: list(value.shape) for name, value in found.items()} == {k: v for k, (v, _) in entries.items()}
    assert found["training"].tolist() == [1, 2, 3, 4] and found["scale"].item() == 0.5
    assert found["weight"].min() >= -2 and found["weight"].max() < -1
    assert torch.equal(found["weight"], kasmina.to_module(text, random_seed=3).weight)
    assert not torch.equal(found["weight"], kasmina.to_module(text, random_seed=4).weight)
    layer = kasmina.Layer(8, 2, [(blueprint, 1)])
    layer.germinate(1)
    layer.end_epoch()
    assert layer.bank_0[0, 8:].tolist() == [1, 2, 3, 4, 0.5]


def test_a_reference_can_be_had_from_json_an_object_a_blueprint_or_a_name():
    blueprint = kasmina.Blueprint.library("mlp", 4)
    text = blueprint.to_json()
    modules = [kasmina.to_module(source) for source in (blueprint, text, text.encode(), json.loads(text))]
    modules += [kasmina.to_module("mlp", 4), pickle.loads(pickle.dumps(modules[0])), copy.deepcopy(modules[1])]
    x = torch.randn(3, 4)
    for module in modules:
        assert torch.equal(module(x), F.relu(x))
    with pytest.raises(TypeError, match="pass `chunk`"):
        kasmina.to_module("mlp")
    with pytest.raises(ValueError, match="4 channels, not 5"):
        kasmina.to_module(blueprint, 5)
    with pytest.raises(ValueError, match=r"shape \[3, 5\]"):
        modules[0](torch.randn(3, 5))


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0, 4), (2, 3, 4)])
def test_any_leading_dimensions_are_rows(shape):
    module = kasmina.to_module("bottleneck", 4)
    torch.nn.init.normal_(module.w2)
    y = module(torch.randn(shape))
    y.sum().backward()
    assert y.shape == shape and module.w2.grad.shape == module.w2.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_rounded_once(dtype):
    module = kasmina.to_module("normalized_mlp", 8)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 8, dtype=dtype)
    assert torch.equal(module(x), module(x.float()).to(dtype))


def test_a_reference_can_be_compiled_and_exported():
    module = kasmina.to_module("squeeze_excite", 8)
    x = torch.randn(5, 8)
    exported = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(exported(x), module(x))
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))


def test_philox_gives_the_published_answers():
    known = {
        (0, (0, 0, 0, 0)): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (2**64 - 1, (2**32 - 1,) * 4): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x299F31D0A4093822, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)): (
            0xD16CFE09,
            0x94FDCCEB,
            0x5001E420,
            0x24126EA1,
        ),
    }
    for (key, counter), wanted in known.items():
        assert tuple(int(bits) for bits in philox(key, [torch.tensor(part) for part in counter])) == wanted


def test_dropout_drops_what_it_drops_in_a_layer(device):
    nodes = [
        ("a", "dropout", "x", {"p": 0.25}),
        ("r", "reshape", "a", {"shape": [2, 3]}),
        ("b", "dropout", "r"),
        ("m", "matmul", "b w"),
        ("d", "dropout", "m", {"p": 0.125}),
        ("y", "reshape", "d", {"shape": [6]}),
    ]
    blueprint = kasmina.Blueprint.from_json(document({"w": (3, 3)}, nodes, chunk=6))
    layer = grafted([blueprint] * 3, device=device, dtype=torch.float64)
    modules = [double(blueprint).to(device) for _ in range(3)]
    for module in modules:
        torch.nn.init.normal_(module.w)
    give_parameters(layer, modules)
    x = torch.randn(4, 5, layer.hidden, dtype=torch.float64, device=device)
    outputs = []
    for key in (0, 5, 2**63 - 1):
        drawn = torch.tensor([key], device=device)
        rows = x.clone().requires_grad_()
        banks = [bank.detach().requires_grad_() for bank in layer.banks()]
        y = torch.ops.kasmina.forward(rows, layer.alpha, banks, None, layer._id, False, drawn)
        wanted_rows = x.clone().requires_grad_()
        chunks = enumerate(zip(modules, wanted_rows.split(layer.chunk, -1)))
        wanted = torch.cat([module(chunk, random=key, seed=seed) for seed, (module, chunk) in chunks], -1)
        assert torch.equal(y == 0, wanted == 0) and 0.1 < (y == 0).double().mean() < 0.9
        torch.testing.assert_close(y, wanted)
        gradient = torch.randn_like(y)
        found = torch.autograd.grad(y, [rows, *banks], gradient)
        goal = torch.autograd.grad(wanted, [wanted_rows, *(module.w for module in modules)], gradient)
        torch.testing.assert_close(found, (goal[0], *(g.reshape(1, -1) for g in goal[1:])))
        outputs.append(y)
    assert not torch.equal(outputs[0] == 0, outputs[1] == 0)
    torch.testing.assert_close(layer(x), torch.cat([m(c) for m, c in zip(modules, x.split(6, -1))], -1))
