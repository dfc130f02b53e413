"""Random graphs: what layers compute, forward and backward, against the same graphs in plain torch.

The graphs come from the generator that the Rust tests and the fuzzers use (`cargo run --example random_blueprints`), or
from the file that `--graphs` names, one blueprint in JSON a line, where there is no cargo (conftest.py).

The measure is the reference in float64. How far a layer may be from it depends on the graph: on what torch itself loses
in float32 there, and on how far the results move when the inputs do by a rounding error.
"""

import collections
import dataclasses
import functools
import json

import pytest
import torch
from grafted import give_parameters, grafted, run_layer, run_modules

import kasmina

ROWS = 5
# Seeds of one layer: fewer than blueprints that a layer may know; on CUDA few, because NVRTC compiles them as one.
AT_ONCE = {"cpu": 64, "cuda": 8}
# Rounding errors: half the distance from 1 to the next number.
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
# What inputs are moved by to see how far results move.
NUDGE = 2.0**-24
# How many rounding errors of its inputs and of its largest element a result may be off: sums of thousands of equal
# numbers lose hundreds, in an order that is not torch's. And how many times what torch loses.
ROUNDINGS, TIMES_TORCH = 256, 16


@pytest.fixture(scope="session")
def graphs(random_graphs):
    """Blueprints by chunk width."""
    by_chunk = collections.defaultdict(list)
    for line in random_graphs():
        blueprint = kasmina.Blueprint.from_json(line)
        by_chunk[blueprint.chunk].append(blueprint)
    return by_chunk


@dataclasses.dataclass
class Wanted:
    """What a graph should compute, in float64, and for each result how far float32 may be from it."""

    x: torch.Tensor
    gradient: torch.Tensor
    results: list
    allowed: list


@functools.cache
def wanted(blueprint):
    """Rows and gradients that every type holds exactly, and what should come of them."""
    generator = torch.Generator().manual_seed(int.from_bytes(blueprint.hash[:7]))

    def nudged(tensor):
        return tensor * (1 + NUDGE * torch.randint(-1, 2, tensor.shape, generator=generator))

    def in_steps():
        return torch.randint(-128, 129, (ROWS, blueprint.chunk), generator=generator).double() / 64

    x, gradient = in_steps(), in_steps()
    results = run(reference(blueprint), x, gradient)
    moved, lost = [0.0] * 3, [0.0] * 3
    for step in range(3):
        near, near_x, near_gradient = reference(blueprint), nudged(x), nudged(gradient)
        with torch.no_grad():
            for parameter in near.parameters():
                parameter.copy_(nudged(parameter))
        exact = run(near, near_x, near_gradient)
        single = run(near.float(), near_x.float(), near_gradient.float())
        for position, result in enumerate(results):
            moved[position] = max(moved[position], largest(exact[position] - result))
            lost[position] = max(lost[position], largest(single[position] - exact[position]))
    allowed = [
        ROUNDINGS * (NUDGE * largest(result) + far) + TIMES_TORCH * loss
        for result, far, loss in zip(results, moved, lost)
    ]
    return Wanted(x, gradient, results, allowed)


def reference(blueprint, dtype=torch.float64):
    """The module of a graph, with parameters that float32 holds."""
    module = kasmina.to_module(blueprint, random_seed=1, dtype=torch.float32)
    return module.to(dtype)


def run(module, x, gradient):
    """Output, gradient of x, gradient of the parameters."""
    y, of_x, (of_parameters,) = run_modules([module], x, gradient)
    return [y, of_x, of_parameters]


def largest(tensor):
    return tensor.abs().max().item() if tensor.numel() else 0.0


def rounds_inside(blueprint):
    """The coarsest type that the graph itself rounds to."""
    casts = [node["attributes"]["type"] for node in json.loads(blueprint.to_json())["nodes"] if node["op"] == "cast"]
    return torch.bfloat16 if "bf16" in casts else torch.float16 if "f16" in casts else torch.float32


@pytest.mark.parametrize(
    ("dtype", "every"),
    [(torch.float64, 1), (torch.float32, 1), (torch.float16, 5), (torch.bfloat16, 5)],
    ids=["f64", "f32", "f16", "bf16"],
)
def test_layers_compute_random_graphs_as_torch_does(dtype, every, graphs, device, capsys):
    bank_type = torch.float64 if dtype == torch.float64 else torch.float32
    worst, compared, failures = [0.0, 0.0, 0.0], 0, []
    for blueprints in graphs.values():
        chosen = blueprints[::every]
        for first in range(0, len(chosen), AT_ONCE[device.type]):
            some = chosen[first : first + AT_ONCE[device.type]]
            layer = grafted(some, device=device, dtype=bank_type, row_type=dtype)
            modules = [reference(blueprint, bank_type).to(device) for blueprint in some]
            give_parameters(layer, modules)
            expected = [wanted(blueprint) for blueprint in some]
            x = torch.cat([one.x for one in expected], -1).to(device, dtype)
            gradient = torch.cat([one.gradient for one in expected], -1).to(device, dtype)
            y, of_x, of_parameters = run_layer(layer, x, gradient)
            pieces = zip(y.split(layer.chunk, -1), of_x.split(layer.chunk, -1), of_parameters)
            for blueprint, found, one in zip(some, pieces, expected):
                compared += 1
                unit = (
                    UNIT[bank_type] / UNIT[torch.float32] * max(1, UNIT[rounds_inside(blueprint)] / UNIT[torch.float32])
                )
                for position, (result, goal, allowed) in enumerate(zip(found, one.results, one.allowed)):
                    # Output and gradient of x are rounded to the type of the rows; parameters have their own.
                    rounding = UNIT[dtype] * goal.abs() if position < 2 and dtype != bank_type else 0.0
                    error = (result.cpu().double() - goal).abs() - rounding
                    share = largest(error.clamp(min=0)) / (allowed * unit) if allowed else largest(error)
                    worst[position] = max(worst[position], share)
                    if not share <= 1:
                        failures.append((share, position, blueprint))
    with capsys.disabled():
        print(
            f"\n{compared} random graphs in {str(dtype)[6:]} on {device.type}; worst error as a share of what is "
            "allowed: output {:.2g}, gradient of x {:.2g}, of parameters {:.2g}".format(*worst)
        )
    if failures:
        share, position, blueprint = max(failures, key=lambda failure: failure[0])
        pytest.fail(
            f"{len(failures)} results are wrong; result {position} is {share:.3g} times too far in "
            + blueprint.to_json()
        )
    assert compared == sum(len(blueprints[::every]) for blueprints in graphs.values()) > 0
