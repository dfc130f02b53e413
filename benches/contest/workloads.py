"""What is computed: layers by size, type and active seeds, and the numbers in them. Knows no contestant."""

import dataclasses
import json

import torch

import kasmina


@dataclasses.dataclass(frozen=True)
class Workload:
    """A layer of `seeds` chunks, of which every `every`-th applies a blueprint (none, if that is 0).

    With several blueprints, the active seeds take them in turn.
    """

    name: str
    rows: int
    hidden: int
    seeds: int
    dtype: torch.dtype
    blueprints: tuple = ("bottleneck",)
    every: int = 2

    @property
    def chunk(self):
        return self.hidden // self.seeds

    @property
    def active(self):
        """The active seeds of each blueprint, in the order of the blueprints."""
        all_active = range(0, self.seeds, self.every) if self.every else range(0)
        return [list(all_active[turn :: len(self.blueprints)]) for turn in range(len(self.blueprints))]

    @property
    def data_type(self):
        return str(self.dtype).removeprefix("torch.")

    def cut(self, factor):
        """The same with fewer rows, but at least 16."""
        return dataclasses.replace(self, rows=max(self.rows // factor, min(self.rows, 16)))


# The four that both suites run: every other seed has a GELU bottleneck of a quarter of the chunk's width.
WORKLOADS = [
    Workload("transformer", 8192, 4096, 64, torch.bfloat16),
    Workload("kseeds", 512, 65536, 1024, torch.bfloat16),
    Workload("kseeds_f32", 256, 65536, 1024, torch.float32),
    Workload("latency_1000", 64, 32000, 1000, torch.bfloat16),
]


@dataclasses.dataclass
class Group:
    """The active seeds of one blueprint: which, and their parameters, one tensor `[active, ...]` for each."""

    name: str
    blueprint: kasmina.Blueprint
    seeds: list
    parameters: dict


class Problem:
    """A workload on a device, with the numbers that every contestant is given."""

    # Half way up the ramp.
    alpha = 0.5

    def __init__(self, workload, device="cpu"):
        self.workload, self.device = workload, torch.device(device)
        self.generator = torch.Generator().manual_seed(0)
        self.groups = [self._group(*pair) for pair in zip(workload.blueprints, workload.active)]

    def _group(self, name, seeds):
        blueprint = library(name, self.workload.chunk)
        parameters = {}
        for entry in json.loads(blueprint.to_json())["parameters"]:
            values = torch.randn(len(seeds), *entry["shape"], generator=self.generator) * 0.1
            # Numbers that every contestant's type can hold.
            parameters[entry["name"]] = values.to(self.workload.dtype).float().to(self.device)
        return Group(name, blueprint, seeds, parameters)

    def rows(self, count):
        """That many random tensors `[rows, hidden]`."""
        shape = (self.workload.rows, self.workload.hidden)
        return [torch.randn(shape, dtype=self.workload.dtype, device=self.device) for _ in range(count)]


def library(name, chunk):
    """A blueprint of the library, with the approximation of GELU that all contestants use."""
    document = json.loads(kasmina.Blueprint.library(name, chunk).to_json())
    for node in document["nodes"]:
        if node["op"] == "gelu":
            node["attributes"] = {"approximate": "tanh"}
    return kasmina.Blueprint.from_json(document)
