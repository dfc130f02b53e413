"""Contestants that only a device with its own queue makes interesting: loops, vmap, and recorded graphs."""

import torch
import torch.nn.functional as F
from contest.correctness import PASSES
from contest.plain import Torch, gathering, telemetry
from stopwatch import Runner

# Inputs smaller than this are recorded in one graph, one call after the other, as the layers of a network would be.
ONE_GRAPH = 16 << 20


class Looping(Torch):
    """One chunk after the other, each seed with parameters of its own. Telemetry in one piece all the same."""

    def __init__(self, problem):
        super().__init__(gathering, problem)
        ((_, _, stacked),) = self.groups
        self.names, self.places = list(stacked), problem.groups[0].seeds
        self.own = [
            [value[index].detach().clone().requires_grad_() for value in stacked.values()]
            for index in range(len(self.places))
        ]

    def forward(self, x):
        chunks = list(x.chunk(self.seeds, -1))
        for seed, (w1, b1, w2, b2) in zip(self.places, self.own):
            chunk = chunks[seed]
            inner = F.gelu(F.linear(chunk, w1, b1), approximate="tanh")
            chunks[seed] = chunk + self.alpha * (chunk + F.linear(inner, w2, b2) - chunk)
        telemetry(x, self.seeds)
        return torch.cat(chunks, -1)

    def leaves(self):
        return [value for own in self.own for value in own]

    def named(self, gradients):
        count = len(self.names)
        return {
            f"bottleneck.{name}": torch.stack(gradients[position::count]) for position, name in enumerate(self.names)
        }


class Bottleneck(torch.nn.Module):
    def __init__(self, chunk, width):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(chunk, width), torch.nn.Linear(width, chunk)

    def forward(self, x):
        return x + self.outer(F.gelu(self.inner(x), approximate="tanh"))


class Vmapped(Torch):
    """The modules of all active seeds stacked, and `torch.func.vmap` over them."""

    # In the order of the parameters of `Bottleneck`.
    NAMES = {"w1": "inner.weight", "b1": "inner.bias", "w2": "outer.weight", "b2": "outer.bias"}

    def __init__(self, problem):
        super().__init__(gathering, problem)
        ((_, self.active, stacked),) = self.groups
        width, chunk = stacked["w1"].shape[1:]
        module = Bottleneck(chunk, width).to("meta")

        def call(parameters, chunk):
            return torch.func.functional_call(module, parameters, (chunk,))

        self.call = torch.func.vmap(call, in_dims=(0, 1), out_dims=1)
        self.stacked = {self.NAMES[name]: value for name, value in stacked.items()}

    def forward(self, x):
        chunks = x.view(x.shape[0], self.seeds, -1)
        a = chunks.index_select(1, self.active)
        y = chunks.index_copy(1, self.active, a + self.alpha * (self.call(self.stacked, a) - a))
        telemetry(x, self.seeds)
        return y.view_as(x)


class Recorded:
    """A contestant's calls recorded in CUDA graphs and replayed: no host in between, and no copy of the input.

    `mode="reduce-overhead"` would copy every input into memory of its own first; so this is the faster way.
    """

    def __init__(self, contestant):
        self.contestant, self.passes = contestant, contestant.passes

    def __getattr__(self, name):
        return getattr(self.contestant, name)

    def runner(self, pass_, inputs, gradient):
        if inputs[0].device.type != "cuda":
            raise RuntimeError("CUDA graphs need a CUDA device")
        run, pool = PASSES[pass_], torch.cuda.graph_pool_handle()
        together = len(inputs) if inputs[0].nbytes < ONE_GRAPH else 1
        self._warm_up(run, inputs[0], gradient)
        graphs = []
        for first in range(0, len(inputs), together):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                outputs = [run(self.contestant, x, gradient) for x in inputs[first : first + together]][-1:]
            graphs.append(graph)
        self._check(graphs[-1], outputs[0], run(self.contestant, inputs[-1], gradient))
        return Runner(lambda index: graphs[index].replay(), len(graphs), together)

    def _warm_up(self, run, x, gradient):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run(self.contestant, x, gradient)
        torch.cuda.current_stream().wait_stream(side)

    def _check(self, graph, recorded, direct):
        graph.replay()
        first = [outputs[0] if isinstance(outputs, tuple) else outputs for outputs in (recorded, direct)]
        if not torch.allclose(*first, rtol=1e-2, atol=1e-2):
            raise RuntimeError("the replayed graph computes something else than the calls it recorded")


def runner(contestant, pass_, inputs, gradient):
    """What is timed of a contestant."""
    if isinstance(contestant, Recorded):
        return contestant.runner(pass_, inputs, gradient)
    run = PASSES[pass_]
    return Runner(lambda index: run(contestant, inputs[index], gradient), len(inputs))
