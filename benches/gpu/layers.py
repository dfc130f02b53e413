"""Comparisons of layers: a workload, who takes part in it, and the records of its passes."""

import dataclasses
import sys

import torch
from contest.correctness import PASSES, Wrong, largest_error, reference
from contest.grown import Kasmina
from contest.plain import Torch, gathering, masking, observing
from contest.workloads import WORKLOADS, Problem, Workload
from floors import floor_bytes
from peers import Looping, Recorded, Vmapped, runner
from stopwatch import copy_rate, failure, matmul_rate, time_all

# Inputs take turns, so many that they are several times what a second-level cache holds.
ROTATED, MOST_INPUTS = 400_000_000, 64


def compiled(function):
    return lambda problem: Torch(function, problem, mode="default")


def tuned(function):
    return lambda problem: Recorded(Torch(function, problem, mode="max-autotune-no-cudagraphs"))


def triton(problem):
    from triton_layer import Triton

    return Triton(problem)


OURS = {"kasmina": Kasmina}
COMPILED = {"torch.compile, gathering": compiled(gathering), "torch.compile, masking": compiled(masking)}
TUNED = {"max-autotune graph, gathering": tuned(gathering), "max-autotune graph, masking": tuned(masking)}
PEERS = {
    "eager loop": Looping,
    "eager vectorised": lambda problem: Torch(gathering, problem),
    "vmap": Vmapped,
    "triton": triton,
}


@dataclasses.dataclass
class Comparison:
    """A workload and its contestants: functions from the problem. `--quick` leaves out those named in `slow`."""

    workload: Workload
    contestants: dict
    slow: tuple = (*PEERS, *TUNED)
    passes: tuple = tuple(PASSES)
    matmul: bool = False

    def to_prepare(self, options):
        """Lists of contestants that compile for long; each list is worth a process of its own."""
        tuned = [name for name in self._names(options) if name in TUNED]
        return [[*OURS, *COMPILED], *([name] for name in tuned)] if tuned else []

    def prepare(self, options, names):
        """Runs contestants once, so that what they compile is in the caches."""
        problem, failed = self._problem(options), []
        for name in names:
            try:
                contestant = self.contestants[name](problem)
                x, gradient = problem.rows(2)
                for pass_ in contestant.passes:
                    PASSES[pass_](contestant, x, gradient)
            except Exception as error:
                failed.append(f"{name}: {failure(error)['failed']}")
        if failed:
            sys.exit("\n".join(failed))

    def _names(self, options):
        return [name for name in self.contestants if not (options.quick and name in self.slow)]

    def _problem(self, options):
        torch.manual_seed(0)
        return Problem(self.workload.cut(options.cut), options.device)

    def run(self, options, ready):
        """Sets everything up and checks it, says that it is ready, and gives a record for each pass."""
        problem = self._problem(options)
        contestants, errors, failed = {}, {}, {}
        x, gradient = problem.rows(2)
        wanted = reference(problem, x, gradient)
        for name in self._names(options):
            try:
                contestants[name] = self.contestants[name](problem)
                errors[name] = largest_error(contestants[name], wanted, x, gradient)
            except Wrong as wrong:
                failed[name] = {"failed": f"wrong: {wrong}"}
            except Exception as error:
                failed[name] = failure(error)
        del wanted
        ready()
        rate = copy_rate(options.device)
        about = {"copy_rate": rate}
        if self.matmul:
            about |= {"matmul_rate": matmul_rate(options.device), "operations": self._operations(problem)}
        inputs = problem.rows(min(max(2, ROTATED // x.nbytes + 1), MOST_INPUTS) if x.is_cuda else 2)
        for pass_ in self.passes:
            runners, unable = {}, dict(failed)
            for name, contestant in contestants.items():
                if name in failed:
                    continue
                try:
                    if pass_ not in contestant.passes:
                        unable[name] = {"failed": "it has the forward pass only"}
                    else:
                        runners[name] = runner(contestant, pass_, inputs, gradient)
                except Exception as error:
                    unable[name] = failure(error)
            times = time_all(runners, options.device, options.quick)
            times = {name: {**value, "error": errors[name]} for name, value in times.items()}
            yield record(problem, pass_, {**times, **unable}, floor_bytes(problem, pass_), **about)
            del runners

    def _operations(self, problem):
        """Floating-point operations of the matrix products of a forward pass: two for each weight and row."""
        weights = sum(
            value.numel() for group in problem.groups for value in group.parameters.values() if value.ndim == 3
        )
        return 2 * weights * problem.workload.rows


def record(problem, pass_, contestants, floor=None, copy_rate=None, **more):
    """What is written down of one pass."""
    workload = problem.workload
    return {
        "work": workload.name,
        "pass": pass_,
        "rows": workload.rows,
        "hidden": workload.hidden,
        "seeds": workload.seeds,
        "active": sum(len(group.seeds) for group in problem.groups),
        "type": workload.data_type,
        "contestants": contestants,
        "floor": floor and {"bytes": floor, "microseconds": floor / copy_rate * 1e6},
        "copy_rate": copy_rate,
        **more,
    }


class Deterministic(Kasmina):
    """The layer as it runs when torch is told to use deterministic algorithms; its price is the ratio to `kasmina`."""

    def __init__(self, problem):
        super().__init__(problem)
        # torch's own part of it, which would write the output twice.
        torch.utils.deterministic.fill_uninitialized_memory = False

    def forward(self, x):
        torch.use_deterministic_algorithms(True)
        try:
            return self.layer(x)
        finally:
            torch.use_deterministic_algorithms(False)


class InPlace(Kasmina):
    """The layer's output in the memory of its input, so that only active chunks are written; none, if all are dormant."""

    passes = ("forward",)

    def __init__(self, problem):
        super().__init__(problem)
        self.layer.inplace = True


class Clone:
    """A plain copy of the input: what any layer takes that gives an output of its own and computes nothing."""

    passes = ("forward",)

    def __init__(self, problem):
        pass

    def forward(self, x):
        return x.clone()


class Dormant(Comparison):
    """Two kinds of contestants: those that write an output of their own, and those that give the input back."""

    def run(self, options, ready):
        for found in super().run(options, ready):
            for pass_, aliasing in ((found["pass"], False), ("forward, output aliasing the input", True)):
                own = {name: times for name, times in found["contestants"].items() if ("aliasing" in name) == aliasing}
                part = 0.5 if aliasing else 1
                floor = {key: value * part for key, value in found["floor"].items()}
                yield {**found, "pass": pass_, "contestants": own, "floor": floor}


def _like(name, rows, hidden, seeds, blueprints, every):
    return Workload(name, rows, hidden, seeds, torch.bfloat16, blueprints, every)


FOUR = ("bottleneck", "low_rank", "squeeze_excite", "residual")
ONLY = {"kasmina": Kasmina, **COMPILED}
COMPARISONS = {
    **{workload.name: Comparison(workload, {**OURS, **PEERS, **COMPILED, **TUNED}) for workload in WORKLOADS},
    "elementwise": Comparison(_like("elementwise", 8192, 4096, 64, ("residual",), 2), ONLY),
    "conv": Comparison(_like("conv", 8192, 4096, 64, ("conv",), 2), ONLY),
    "mixed": Comparison(
        _like("mixed", 8192, 4096, 64, FOUR, 2), {**OURS, "torch.compile, gathering": compiled(gathering)}
    ),
    "dormant": Dormant(
        _like("dormant", 8192, 4096, 64, ("bottleneck",), 0),
        {
            **OURS,
            "torch.compile": compiled(gathering),
            "clone": Clone,
            "kasmina, aliasing": InPlace,
            "torch.compile, aliasing": compiled(observing),
        },
        passes=("forward",),
    ),
    "in_place": Comparison(
        _like("in_place", 512, 65536, 1024, ("bottleneck",), 10),
        {**ONLY, "kasmina, in place": InPlace},
        passes=("forward",),
    ),
    "normalised": Comparison(_like("normalised", 8192, 4096, 32, ("normalized_mlp",), 1), ONLY, matmul=True),
}
for workload in WORKLOADS:
    COMPARISONS[workload.name].contestants["kasmina, deterministic"] = Deterministic
COMPARISONS["latency_1000"].contestants["kasmina, recorded"] = lambda problem: Recorded(Kasmina(problem))
