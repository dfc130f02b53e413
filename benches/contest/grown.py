"""The contestant under test: a Kasmina layer, grown until the wanted seeds do what the workload wants of them."""

import sys
from pathlib import Path

import torch

import kasmina
from kasmina import Action, Command

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))
from growing import OPEN  # noqa: E402

WAY = (Action.GERMINATE, Action.START_TRAINING, Action.START_GRAFTING)


class Kasmina:
    """A layer whose active seeds are half way up the ramp, or in the state that the last action of `way` leads to."""

    passes = ("forward", "forward and backward")

    def __init__(self, problem, way=WAY, learning_rate=0.0):
        workload = problem.workload
        self.groups = problem.groups
        training = {**OPEN["training"], "places": workload.seeds, "learning_rate": learning_rate}
        settings = {**OPEN, "max_active_seeds": workload.seeds, "training": training}
        blueprints = [(group.blueprint, max(len(group.seeds), 1)) for group in self.groups]
        # Grown on the CPU, where the kernels for the way there need no compiler, and then moved.
        layer = kasmina.Layer(workload.hidden, workload.seeds, blueprints, device="cpu", settings=settings)
        grow(layer, [group.seeds for group in self.groups], way, workload.dtype)
        if Action.START_GRAFTING in way and set(layer.alpha[seeds_of(self.groups)].tolist()) - {problem.alpha}:
            raise RuntimeError("the active seeds are not half way up the ramp")
        self.layer = layer.to(problem.device)
        self.layer.prepare(workload.dtype)
        self.slots = [self.layer.array("slot")[group.seeds].long() for group in self.groups]
        with torch.no_grad():
            for group, bank, slots in zip(self.groups, self.layer.banks(), self.slots):
                if not group.seeds:
                    continue
                bank[slots] = torch.cat([values.reshape(len(slots), -1) for values in group.parameters.values()], 1)

    def forward(self, x):
        return self.layer(x)

    def leaves(self):
        return self.layer.banks()

    def named(self, gradients):
        """Gradients of the leaves (or anything shaped like banks) by the names of the parameters, for active seeds."""
        found = {}
        for group, gradient, slots in zip(self.groups, gradients, self.slots):
            offset = 0
            for name, values in group.parameters.items() if group.seeds else ():
                size = values[0].numel()
                found[f"{group.name}.{name}"] = gradient[slots, offset : offset + size].reshape(values.shape)
                offset += size
        return found


def seeds_of(groups):
    return [seed for group in groups for seed in group.seeds]


def grow(layer, seeds, way, row_type):
    """Takes `seeds[blueprint]` of a fresh layer along a way of actions; those that graft end with alpha 0.5."""
    if not any(seeds):
        return
    row = torch.randn(2, layer.hidden, dtype=row_type, device=layer.device)
    for action in way:
        # Some gates look at the last two epochs.
        for _ in range(2):
            _end_epoch(layer, row)
        layer.submit(*(Command(seed, action, blueprint=index) for index, own in enumerate(seeds) for seed in own))
        _end_epoch(layer, row)
        layer.prepare(row_type)
    if way[-1] == Action.START_GRAFTING:
        _end_epoch(layer, row)


def _end_epoch(layer, row):
    with torch.no_grad():
        layer(row)
    summary = layer.end_epoch()
    if summary["refused"]:
        raise RuntimeError(f"the layer refused: {summary['refused'][0]['reason']}")
