"""Layers in any state of their lifecycle, and what they should compute, written in plain torch."""

import json

import torch
import torch.nn.functional as F

import kasmina
from kasmina import Action, Command, Lifecycle

# Every gate open, and a ramp that stops half way after one epoch.
OPEN = {
    "ramp_steps": 2,
    "minimum_epochs": dict.fromkeys(
        ["germinated", "training", "grafting", "stabilization", "evaluating", "fine_tuning"], 0
    ),
    "gates": {
        "statistics_change": 1e30,
        "validation_delta": -1e30,
        "cull_validation_delta": -1e30,
        "evaluation_stability": 0.0,
        "improvement": -1e30,
        "fossilization_stability": 0.0,
    },
    "training": {"loss_threshold": 1e30, "learning_rate": 0.0, "weight_decay": 0.0},
}

# Gates and ramps that hold nobody up for long, for trainings in which seeds live and go.
QUICK = {
    "ramp_steps": 2,
    "embargo_epochs": 1,
    "gates": {"statistics_change": 1e30},
    "grafting": {"base_rate": 0.5, "gradient_norm_low": 0.0, "gradient_norm_high": 1e30, "drift_limit": 1e30},
    "training": {"loss_threshold": 1e30},
}

# What leads on from a state, with evidence that opens the gate.
_ON = {
    Lifecycle.GERMINATED: (Action.START_TRAINING, {}),
    Lifecycle.TRAINING: (Action.START_GRAFTING, {}),
    Lifecycle.GRAFTING: (Action.STABILISE, {}),
    Lifecycle.STABILIZATION: (Action.EVALUATE, {}),
    Lifecycle.EVALUATING: (Action.FINE_TUNE, {"validation_delta": 1.0, "stability": 1.0}),
    Lifecycle.FINE_TUNING: (Action.FOSSILISE, {"improvement": 1.0, "stability": 1.0}),
    Lifecycle.CULLED: (Action.RESET, {}),
    Lifecycle.CANCELLED: (Action.RESET, {}),
    Lifecycle.ROLLED_BACK: (Action.RESET, {}),
}
# States off the way, and how they are left it for.
_ASIDE = {
    Lifecycle.CULLED: (Lifecycle.TRAINING, lambda layer, seed: layer.cull(seed)),
    Lifecycle.CANCELLED: (Lifecycle.GERMINATED, lambda layer, seed: layer.cancel(seed)),
    Lifecycle.ROLLED_BACK: (Lifecycle.GRAFTING, lambda layer, seed: layer.roll_back(seed, "a test")),
}
STATES = list(Lifecycle)


def lead_on(seed, state):
    """The command that leads a seed on from a state; None where a controller has to choose (DORMANT), or nothing follows."""
    if state not in _ON:
        return None
    action, evidence = _ON[state]
    return Command(seed, action, **evidence)


def layer_of(blueprints, *, hidden=16, seeds=4, device="cpu", dtype=torch.float32, settings=None):
    """A layer in training mode whose gates are open."""
    settings = {**OPEN, **(settings or {})}
    return kasmina.Layer(hidden, seeds, blueprints, device=device, dtype=dtype, settings=settings)


def bring(layer, seed, wanted, blueprint=0, row_type=None):
    """Takes a dormant seed to a state; one in GRAFTING has alpha 0.5."""
    goal, aside = _ASIDE.get(wanted, (wanted, None))
    if goal == Lifecycle.DORMANT:
        return
    layer.germinate(seed, blueprint)
    layer.end_epoch()
    for used in {layer.dtype, row_type or layer.dtype}:
        layer.prepare(used)
    # Up to FOSSILIZED each state leads to the next one.
    for state in range(Lifecycle.GERMINATED, goal):
        assert layer.states()[seed] == state
        # Some gates look at the last two epochs.
        _end_epoch(layer)
        _end_epoch(layer)
        layer.submit(lead_on(seed, state))
        summary = _end_epoch(layer)
        assert summary["refused"] == []
    assert layer.states()[seed] == goal
    if goal == Lifecycle.GRAFTING:
        _end_epoch(layer)
        assert layer.array("alpha")[seed] == 0.5
    if aside:
        aside(layer, seed)
        layer.end_epoch()
        assert layer.states()[seed] == wanted


def _end_epoch(layer):
    with torch.no_grad():
        layer(torch.randn(8, layer.hidden, device=layer.device, dtype=layer.dtype))
    return layer.end_epoch()


def randomise(layer, scale=0.5):
    """Gives every bank random parameters."""
    for bank in layer.banks():
        with torch.no_grad():
            bank.copy_(torch.randn(bank.shape, device="cpu", dtype=bank.dtype) * scale)


def document(parameters, nodes, chunk=4, output="y", name="test"):
    """A blueprint as JSON: parameters are `{name: shape}`, nodes are `(name, op, inputs, attributes)`."""
    return {
        "ir_version": 1,
        "name": name,
        "chunk": chunk,
        "parameters": [{"name": key, "shape": list(shape)} for key, shape in parameters.items()],
        "nodes": [
            {"name": key, "op": op, "inputs": inputs.split(), "attributes": dict(*attributes)}
            for key, op, inputs, *attributes in nodes
        ],
        "output": output,
    }


def parameters_of(blueprint, slot):
    """The named parameters in a slot (a row of a bank), as views of it."""
    found, offset = {}, 0
    for entry in json.loads(blueprint.to_json())["parameters"]:
        size = torch.Size(entry["shape"]).numel()
        found[entry["name"]] = slot[offset : offset + size].view(entry["shape"])
        offset += size
    return found


def expected(layer, x, functions, banks, alpha):
    """What a layer gives: the blend for seeds that apply a blueprint, x for the others.

    `functions[seed]` is `f(chunk, parameters)` of the seed's blueprint.
    """
    chunks = list(x[..., : layer.seeds * layer.chunk].split(layer.chunk, dim=-1))
    states, blueprints, slots = layer.states(), layer.array("blueprint").tolist(), layer.array("slot").tolist()
    for seed, state in enumerate(states):
        if Lifecycle.GRAFTING <= state <= Lifecycle.FOSSILIZED:
            function, blueprint = functions[blueprints[seed]]
            parameters = parameters_of(blueprint, banks[blueprints[seed]][slots[seed]])
            weight = alpha[seed].to(x.dtype)
            chunks[seed] = (1 - weight) * chunks[seed] + weight * function(chunks[seed], parameters)
    return torch.cat([*chunks, x[..., layer.seeds * layer.chunk :]], dim=-1)


def bottleneck(x, p):
    return x + F.linear(F.gelu(F.linear(x, p["w1"], p["b1"])), p["w2"], p["b2"])


def growing_layer(device, dtype=torch.float32, hidden=18, seeds=4):
    """One seed dormant, one training, one grafting, one fossilized; and what its blueprint computes."""
    blueprint = kasmina.Blueprint.library("bottleneck", hidden // seeds, width=5)
    settings = {"training": {"loss_threshold": 1e30, "learning_rate": 0.01}}
    layer = layer_of([(blueprint, 4)], hidden=hidden, seeds=seeds, device=device, dtype=dtype, settings=settings)
    bring(layer, 3, Lifecycle.FOSSILIZED)
    bring(layer, 2, Lifecycle.GRAFTING)
    layer.germinate(1)
    layer.end_epoch()
    layer.start_training(1)
    layer.end_epoch()
    assert [state.name for state in layer.states()] == ["DORMANT", "TRAINING", "GRAFTING", "FOSSILIZED"]
    randomise(layer)
    return layer, [(bottleneck, blueprint)]


class Between(torch.nn.Module):
    """A layer of 34 channels between two of torch's."""

    def __init__(self, layer, channels="last"):
        super().__init__()
        first, last = {
            "last": lambda: (torch.nn.Linear(6, 34), torch.nn.Linear(34, 3)),
            "first": lambda: (torch.nn.Conv2d(6, 34, 3), torch.nn.Conv2d(34, 3, 1)),
        }[channels]()
        self.first, self.layer, self.last = first.to(layer.device), layer, last.to(layer.device)
