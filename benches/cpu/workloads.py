"""The workloads, and the layer as somebody writes it who has torch and no Kasmina: what Kasmina is compared with."""

import dataclasses
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import kasmina
from kasmina import Action, Command

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))
from growing import OPEN, parameters_of  # noqa: E402

PARAMETERS = ("w1", "b1", "w2", "b2")


@dataclasses.dataclass(frozen=True)
class Workload:
    """A layer of `seeds` chunks, every other one with a GELU bottleneck of a quarter of the chunk's width."""

    name: str
    rows: int
    hidden: int
    seeds: int
    dtype: torch.dtype

    @property
    def chunk(self):
        return self.hidden // self.seeds

    def cut(self, factor):
        """The same with fewer rows, but at least 16."""
        return dataclasses.replace(self, rows=max(self.rows // factor, min(self.rows, 16)))


WORKLOADS = [
    Workload("transformer", 8192, 4096, 64, torch.bfloat16),
    Workload("kseeds", 512, 65536, 1024, torch.bfloat16),
    Workload("kseeds_f32", 256, 65536, 1024, torch.float32),
    Workload("latency_1000", 64, 32000, 1000, torch.bfloat16),
]


class Kasmina:
    """The contestant under test. Its parameters are those that the others are given."""

    def __init__(self, workload):
        seeds = workload.seeds
        document = json.loads(kasmina.Blueprint.library("bottleneck", workload.chunk).to_json())
        for node in document["nodes"]:
            if node["op"] == "gelu":
                node["attributes"] = {"approximate": "tanh"}
        self.blueprint = kasmina.Blueprint.from_json(json.dumps(document))
        settings = {**OPEN, "max_active_seeds": seeds, "training": {**OPEN["training"], "places": seeds}}
        self.layer = kasmina.Layer(workload.hidden, seeds, [(self.blueprint, seeds)], settings=settings)
        self.active = list(range(0, seeds, 2))
        self._graft(workload.dtype)
        (bank,) = self.layer.banks()
        with torch.no_grad():
            # Numbers that every contestant's type can hold.
            bank.copy_((torch.randn_like(bank) * 0.1).to(workload.dtype))
        self.slots = self.layer.array("slot")[self.active].long()
        self.alpha = self.layer.array("alpha")[self.active].clone()

    def _graft(self, dtype):
        """Takes the active seeds half way up the ramp."""
        row = torch.randn(2, self.layer.hidden, dtype=dtype)
        for action in (Action.GERMINATE, Action.START_TRAINING, Action.START_GRAFTING):
            for _ in range(2):
                self._end_epoch(row)
            self.layer.submit(*(Command(seed, action) for seed in self.active))
            self._end_epoch(row)
            self.layer.prepare(dtype)
        self._end_epoch(row)
        if set(self.layer.alpha[self.active].tolist()) != {0.5}:
            raise RuntimeError("the active seeds are not half way up the ramp")

    def _end_epoch(self, row):
        with torch.no_grad():
            self.layer(row)
        summary = self.layer.end_epoch()
        if summary["refused"]:
            raise RuntimeError(f"the layer refused: {summary['refused'][0]['reason']}")

    def stacked(self, values, dtype):
        """The parameters of the active seeds in rows like those of the bank: one tensor `[active, ...]` for each."""
        return {
            name: view.to(dtype)
            for name, view in _views(self.blueprint, values[self.slots]).items()
        }

    def forward(self, x):
        return self.layer(x)

    def leaves(self):
        return self.layer.banks()

    def gradients(self):
        (bank,) = self.layer.banks()
        return self.stacked(bank.grad, torch.float64)


def _views(blueprint, rows):
    first = parameters_of(blueprint, rows[0])
    found, offset = {}, 0
    for name, view in first.items():
        found[name] = rows[:, offset : offset + view.numel()].reshape(-1, *view.shape)
        offset += view.numel()
    return found


def telemetry(x, seeds):
    """What torch users watch: sum, sum of squares, largest magnitude and how many are not finite, of each seed."""
    chunks = x.detach().view(x.shape[0], seeds, -1).float()
    return (
        chunks.sum((0, 2)),
        chunks.square().sum((0, 2)),
        chunks.abs().amax((0, 2)),
        (~chunks.isfinite()).sum((0, 2)),
    )


def bottleneck(x, w1, b1, w2, b2):
    """x is `[rows, seeds, chunk]`, each seed with its own weights."""
    h = torch.einsum("nac,akc->nak", x, w1) + b1
    return torch.einsum("nak,ack->nac", F.gelu(h, approximate="tanh"), w2) + b2 + x


def gathering(x, seeds, active, alpha, w1, b1, w2, b2):
    """Takes the active chunks out, computes them together and puts them back."""
    chunks = x.view(x.shape[0], seeds, -1)
    a = chunks.index_select(1, active)
    blended = a + alpha[:, None].to(x.dtype) * (bottleneck(a, w1, b1, w2, b2) - a)
    y = chunks.index_copy(1, active, blended)
    return y.view_as(x), telemetry(x, seeds)


def masking(x, seeds, active, alpha, w1, b1, w2, b2):
    """Computes every chunk, the dormant ones with weights of zero and a blend weight of zero."""
    chunks = x.view(x.shape[0], seeds, -1)
    w1, b1, w2, b2, alpha = (
        torch.zeros(seeds, *value.shape[1:], dtype=value.dtype).index_copy(0, active, value)
        for value in (w1, b1, w2, b2, alpha)
    )
    y = chunks + alpha[:, None].to(x.dtype) * (bottleneck(chunks, w1, b1, w2, b2) - chunks)
    return y.view_as(x), telemetry(x, seeds)


class Torch:
    """A contestant in plain torch, with the parameters of a Kasmina layer in the type of the rows."""

    def __init__(self, function, twin, dtype, compiled):
        self.function = torch.compile(function, dynamic=False) if compiled else function
        self.seeds, self.active, self.alpha = twin.layer.seeds, torch.tensor(twin.active), twin.alpha
        stacked = twin.stacked(twin.layer.banks()[0].detach(), dtype)
        self.parameters = [stacked[name].clone().requires_grad_() for name in PARAMETERS]

    def forward(self, x):
        return self.function(x, self.seeds, self.active, self.alpha, *self.parameters)[0]

    def leaves(self):
        return self.parameters

    def gradients(self):
        return {name: value.grad.double() for name, value in zip(PARAMETERS, self.parameters)}
