"""Torch modules as blueprints: the same numbers and gradients in torch and in a layer, or a refusal that says why."""

import functools
import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from grafted import grafted, run_layer
from importable import MODULES, Attention, C, Function, module
from torch import nn

import kasmina

# Modules that want rows in one dimension; the others get two.
FLAT = "PReLU(num_parameters=12)|groups|batch norm"
# Torch rounds a constant of these derivatives to float32.
COARSE = {"a layer with Hardsigmoid()": 1e-7}


def example(name, rows=(2, 3), dtype=torch.float64):
    rows = (math.prod(rows),) if re.search(FLAT, name) or "(num_parameters=12)" in name else rows
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*rows, C, generator=generator, dtype=torch.float64).to(dtype)


@functools.cache
def imported(name):
    return kasmina.from_module(module(name), example(name))


def in_order(blueprint, found):
    """The module's parameters in the order of the blueprint's, by name."""
    names = {re.sub(r"\W", "_", name): parameter for name, parameter in found.named_parameters(remove_duplicate=False)}
    entries = json.loads(blueprint.to_json())["parameters"]
    return [names[entry["name"] if entry["name"] in names else entry["name"].lstrip("_")] for entry in entries]


@pytest.mark.parametrize("name", MODULES)
def test_a_blueprint_of_a_module_computes_what_the_module_computes(name):
    original, blueprint = module(name), imported(name)
    copy = kasmina.to_module(blueprint, dtype=torch.float64)
    x = example(name, (3, 2)).requires_grad_()
    y, wanted = copy(x), original(x)
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    parameters, originals = list(copy.parameters()), in_order(blueprint, original)
    gradient = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, *parameters], gradient, allow_unused=True, materialize_grads=True)
    goal = torch.autograd.grad(wanted, [x, *originals], gradient, allow_unused=True, materialize_grads=True)
    tolerance = COARSE.get(name, 1e-10)
    torch.testing.assert_close(found, goal, rtol=tolerance, atol=tolerance)


# The most blueprints that one CUDA kernel serves.
AT_ONCE = 32


@pytest.mark.parametrize("first", range(0, len(MODULES), AT_ONCE))
def test_a_layer_computes_what_the_modules_compute_and_starts_with_their_parameters(device, first):
    # The modules run on the CPU: on a card torch rounds more constants to float32, and one module keeps a tensor where it made it.
    names = list(MODULES)[first : first + AT_ONCE]
    blueprints, modules = [imported(name) for name in names], [module(name) for name in names]
    layer = grafted(blueprints, device=device, dtype=torch.float64)
    x = torch.cat([example(name, (6,)) for name in names], -1)
    gradient = torch.randn_like(x)
    y, of_x, of_parameters = run_layer(layer, x.to(device), gradient.to(device))
    y, of_x, of_parameters = y.cpu(), of_x.cpu(), [of_slot.cpu() for of_slot in of_parameters]
    for seed, (name, original, blueprint) in enumerate(zip(names, modules, blueprints)):
        own = slice(seed * C, seed * C + C)
        piece = x[:, own].clone().requires_grad_()
        parameters = in_order(blueprint, original)
        start = torch.cat([p.detach().flatten() for p in parameters]) if parameters else x.new_empty(0)
        assert torch.equal(layer.banks()[seed][0].cpu(), start), name
        wanted = original(piece)
        goal = torch.autograd.grad(wanted, [piece, *parameters], gradient[:, own])
        tolerance = COARSE.get(name, 1e-10)
        close = {"rtol": tolerance, "atol": tolerance, "msg": lambda text, name=name: f"{name}: {text}"}
        torch.testing.assert_close(y[:, own], wanted, **close)
        torch.testing.assert_close(of_x[:, own], goal[0], **close)
        gradients = torch.cat([g.flatten() for g in goal[1:]]) if parameters else x.new_empty(0)
        torch.testing.assert_close(of_parameters[seed], gradients, **close)


def test_a_plain_module_becomes_the_graph_that_one_would_write():
    blueprint = kasmina.from_module(nn.Sequential(nn.Linear(C, 4), nn.GELU(), nn.Linear(4, C)), torch.randn(3, 2, C))
    document = json.loads(blueprint.to_json())
    assert [node["op"] for node in document["nodes"]] == ["linear", "gelu", "linear"]
    assert [entry["name"] for entry in document["parameters"]] == ["_0_weight", "_0_bias", "_2_weight", "_2_bias"]
    assert document["metadata"] == {"module": "Sequential"} and document["name"] == "Sequential"
    assert kasmina.from_module(nn.Linear(C, C), torch.randn(1, C), name="mine").to_json().count('"mine"') == 1


def test_a_seed_starts_with_the_parameters_bit_by_bit():
    linear = nn.Linear(C, C)
    blueprint = kasmina.from_module(linear, torch.randn(2, C))
    layer = kasmina.Layer(2 * C, 2, [(blueprint, 2)])
    layer.germinate(0), layer.germinate(1)
    layer.end_epoch()
    start = torch.cat([linear.weight.detach().flatten(), linear.bias.detach()])
    assert torch.equal(layer.bank_0.detach(), torch.stack([start, start]))
    again = kasmina.Blueprint.from_json(blueprint.to_json())
    assert again.initial_values() == blueprint.initial_values()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_modules_of_other_types_are_taken(dtype):
    original = module("a normalised block", dtype)
    x = example("", dtype=dtype)
    copy = kasmina.to_module(kasmina.from_module(original, x))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
    torch.testing.assert_close(copy(x), original(x), rtol=tolerance, atol=tolerance)


def test_arithmetic_in_half_precision_inside_a_module_is_rounded_as_torch_rounds():
    original = Function(lambda x: (x.half() * 1.1).float() + x.bfloat16().float() + (x.half().exp() + 1).float())
    x = torch.randn(50, C)
    copy = kasmina.to_module(kasmina.from_module(original, x))
    assert torch.equal(copy(x), original(x))


def test_dropout_stays_where_the_module_trains():
    trains = nn.Sequential(nn.Linear(C, C), nn.Dropout(0.25), Attention("torch"))
    blueprint = kasmina.from_module(trains, torch.randn(4, C))
    nodes = [node for node in json.loads(blueprint.to_json())["nodes"] if node["op"] == "dropout"]
    assert [node["attributes"]["p"] for node in nodes] == [0.25]
    x = torch.randn(5, C)
    copy = kasmina.to_module(blueprint)
    torch.testing.assert_close(copy(x), trains.eval()(x))
    assert not torch.equal(copy(x, random=3), copy(x)) and torch.equal(copy(x, random=3), copy(x, random=3))
    assert "dropout" not in kasmina.from_module(trains.eval(), x).to_json()


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.a(x).relu(), lambda x: (self.b(x) - 100).log(), (x,))


def test_a_condition_on_one_row_becomes_both_branches_and_no_nan_of_the_other_one_gets_out():
    original = Branches().double()
    blueprint = kasmina.from_module(original, torch.randn(C, dtype=torch.float64))
    copy = kasmina.to_module(blueprint, dtype=torch.float64)
    rows = torch.randn(6, C, dtype=torch.float64)
    rows = (rows - rows.mean(-1, keepdim=True)) + torch.tensor([[0.1], [-0.1]], dtype=torch.float64).repeat(3, 1)
    x = rows.clone().requires_grad_()
    y = copy(x)
    torch.testing.assert_close(y, torch.stack([original(row) for row in rows]), equal_nan=True)
    y[::2].sum().backward()
    assert x.grad[::2].isfinite().all() and all(p.grad.isfinite().all() for p in copy.parameters())


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * 2


class Centred(nn.Module):
    def forward(self, x):
        half = x * 0.5
        return half - half.mean(0)


class Detached(nn.Module):
    def forward(self, x):
        return x + x.detach()


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.arange(float(C)))

    def forward(self, x):
        return x * self.mask


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


def frozen():
    linear = nn.Linear(C, C)
    linear.weight.requires_grad_(False)
    return linear


REFUSED = {
    "a mean over rows": (Centred(), r"`aten.mean.dim` mixes rows.*\n.*in `return half - half.mean\(0\)` at .*test_from_module.py:"),
    "rows in another order": (lambda x: x.flip(0), "`aten.flip.default` mixes rows"),
    "rows times rows": (lambda x: torch.softmax(x @ x.T, -1) @ x, "`aten.matmul.default` mixes rows"),
    "rows moved by a view": (lambda x: x.reshape(C, -1).T.reshape(x.shape), "mixes rows"),
    "running totals over rows": (lambda x: x.cumsum(0), "`aten.cumsum.default` mixes rows"),
    "a batch norm in training": (nn.BatchNorm1d(C), "changes its buffer `running_mean`"),
    "a decomposition": (lambda x: x + torch.linalg.svdvals(x.view(-1, 2, 4)).sum(-1, keepdim=True), "`aten._linalg_svd.default` is not among the operators"),
    "a random number": (lambda x: x + torch.rand_like(x), "`aten.rand_like.default` draws random numbers"),
    "an array that is not trained": (Masked(), r"uses `mask`, an array \[8\] that is not trained(.|\n)*x \* self.mask"),
    "a frozen weight": (frozen(), "uses `weight`, an array"),
    "a buffer that changes": (Counting(), "changes its buffer `calls`"),
    "a gradient that stops": (Detached(), "`aten.detach.default` keeps a gradient back(.|\n)*x.detach"),
    "a gradient that is switched off": (lambda x: x * no_gradient(x), "keeps a gradient back"),
    "another width": (lambda x: x[:, :4], r"makes \[3, 4\] of \[3, 8\]; a blueprint gives back one tensor of the shape"),
    "two results": (lambda x: (x, x), r"makes \[3, 8\] and \[3, 8\]"),
    "a branch on data": (lambda x: x if x.sum() > 0 else -x, "torch cannot export the module"),
    "a number of rows that is fixed": (lambda x: x.view(5, C) + 0, "torch cannot export the module for rows"),
    "another function for one row": (lambda x: x.sin() if len(x) == 1 else x.cos(), "otherwise for 3 rows than for one"),
    "places that are computed": (lambda x: x.gather(-1, x.argsort(-1)), "`aten.gather.default` is not among the operators"),
    "more precision than the rows": (lambda x: x.double().exp().float(), "torch.float64"),
    "parameters that are not finite": (Function(lambda x, w: x * w, w=(C,)), "parameter `w`: .* not finite"),
}  # fmt: skip


@torch.no_grad()
def no_gradient(x):
    return x.sin() + 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_is_refused(name):
    refused, message = REFUSED[name]
    refused = refused if isinstance(refused, nn.Module) else Function(refused)
    if name == "parameters that are not finite":
        nn.init.constant_(refused.w, math.inf)
    with pytest.raises(kasmina.UnsupportedModule, match=message) as raised:
        kasmina.from_module(refused, torch.randn(5, C))
    assert str(raised.value).startswith("kasmina: ")


def test_a_refusal_carries_the_operator_and_the_line_of_the_module():
    with pytest.raises(kasmina.UnsupportedModule) as raised:
        kasmina.from_module(nn.Sequential(nn.Linear(C, C), Spectrum()), torch.randn(5, C))
    assert raised.value.operator.startswith("aten._fft") and __file__ in raised.value.source
    assert "in the submodule `1`" in str(raised.value)


def test_an_example_that_is_no_tensor_of_rows_is_refused():
    for wrong in (torch.arange(8), torch.tensor(1.0), [1.0]):
        with pytest.raises(TypeError, match="floating-point"):
            kasmina.from_module(nn.Identity(), wrong)
