"""The parts of a training step that are not a layer's passes: isolated training, and AdamW over a bank."""

import torch
import torch.nn.functional as F
from contest.correctness import TOLERANCE, Wrong
from contest.grown import WAY, Kasmina, grow
from contest.plain import BLUEPRINTS
from contest.workloads import Problem, Workload
from growing import OPEN
from layers import MOST_INPUTS, ROTATED, record
from peers import Bottleneck, Vmapped
from stopwatch import Runner, copy_rate, failure, launches, time_all

import kasmina

RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.01


class Part:
    """A comparison of one record. `_contestants` make something that has `run(input)` and `result()`."""

    def to_prepare(self, options):
        return []

    def run(self, options, ready):
        torch.manual_seed(0)
        problem = self._problem(options)
        x = problem.rows(1)[0]
        wanted = self._wanted(problem, x)
        runners, errors, failed, made = {}, {}, {}, {}
        count = min(max(2, ROTATED // x.nbytes + 1), MOST_INPUTS) if x.is_cuda and x.nbytes > 1 << 20 else 2
        inputs = problem.rows(count)
        for name, make in self._contestants(options).items():
            try:
                contestant = made[name] = make(problem)
                contestant.run(x)
                errors[name] = _largest(contestant.result(), wanted, problem.workload.dtype)
                runners[name] = Runner(lambda index, run=contestant.run: run(inputs[index]), count)
            except Exception as error:
                failed[name] = {"failed": f"wrong: {error}"} if isinstance(error, Wrong) else failure(error)
        ready()
        rate = copy_rate(options.device)
        times = time_all(runners, options.device, options.quick)
        times = {name: {**value, "error": errors[name]} for name, value in times.items()}
        for name in times:
            if "failed" not in times[name] and name == "kasmina":
                times[name]["launches"] = launches(lambda: made["kasmina"].run(x), options.device)
        yield record(problem, self.pass_, {**times, **failed}, self._bytes(problem), rate)


def _largest(found, wanted, dtype):
    worst = 0.0
    for name, value in found.items():
        error = ((value.double() - wanted[name]).abs().max() / wanted[name].abs().max()).item()
        if not error <= TOLERANCE[dtype]:
            raise Wrong(f"{name} is off by {error:.2g} of the largest number")
        worst = max(worst, error)
    return worst


# Isolated training: seeds learn to reproduce their chunks, all of them or a few of many. Compared are the first moments after the first step: a
# tenth of the gradients.


class KasminaTrains:
    deterministic = False

    def __init__(self, problem):
        self.contestant = Kasmina(problem, way=WAY[:2], learning_rate=RATE)
        self.layer = self.contestant.layer

    def run(self, x):
        torch.ops.kasmina.train_(x, None, self.layer.banks(), self.layer._id, self.deterministic)

    def result(self):
        return self.contestant.named([self.layer.bank_array(0, "first_moment")])


class KasminaTrainsDeterministically(KasminaTrains):
    deterministic = True


class LoopTrains:
    """A module and an optimiser for each seed, one after the other."""

    def __init__(self, problem):
        (group,) = problem.groups
        width, chunk = group.parameters["w1"].shape[1:]
        self.seeds, self.active, self.modules = problem.workload.seeds, group.seeds, []
        for index in range(len(group.seeds)):
            module = Bottleneck(chunk, width).to(problem.device)
            with torch.no_grad():
                for name, place in Vmapped.NAMES.items():
                    module.get_parameter(place).copy_(group.parameters[name][index])
            optimizer = torch.optim.AdamW(module.parameters(), RATE, BETAS, EPSILON, DECAY, fused=True)
            self.modules.append((module, optimizer))

    def run(self, x):
        chunks = x.chunk(self.seeds, -1)
        for (module, optimizer), chunk in zip(self.modules, (chunks[seed] for seed in self.active)):
            with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
                loss = F.mse_loss(module(chunk), chunk)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def result(self):
        moments = {}
        for name, place in Vmapped.NAMES.items():
            own = [optimizer.state[module.get_parameter(place)]["exp_avg"] for module, optimizer in self.modules]
            moments[f"bottleneck.{name}"] = torch.stack(own)
        return moments


class VmapTrains:
    """The modules stacked, `torch.func.vmap` of the gradient, and AdamW over the stacks, all compiled together."""

    def __init__(self, problem, compiled):
        (group,) = problem.groups
        width, chunk = group.parameters["w1"].shape[1:]
        self.module, self.seeds = Bottleneck(chunk, width).to("meta"), problem.workload.seeds
        self.active = torch.tensor(group.seeds, device=problem.device) if len(group.seeds) < self.seeds else None
        self.parameters = {Vmapped.NAMES[name]: value.clone() for name, value in group.parameters.items()}
        self.first, self.second = (
            {name: torch.zeros_like(value) for name, value in self.parameters.items()} for _ in range(2)
        )
        self.steps = torch.zeros((), device=problem.device)
        self.step = torch.compile(self._step, dynamic=False) if compiled else self._step

    def _loss(self, parameters, chunk):
        parameters = {name: value.to(chunk.dtype) for name, value in parameters.items()}
        return F.mse_loss(torch.func.functional_call(self.module, parameters, (chunk,)).float(), chunk.float())

    def _step(self, x):
        chunks = x.view(x.shape[0], self.seeds, -1)
        if self.active is not None:
            chunks = chunks.index_select(1, self.active)
        gradients = torch.func.vmap(torch.func.grad(self._loss), in_dims=(0, 1))(self.parameters, chunks)
        self.steps.add_(1)
        corrections = [1 - beta**self.steps for beta in BETAS]
        for name, gradient in gradients.items():
            parameter, first, second = self.parameters[name], self.first[name], self.second[name]
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            change = first / corrections[0] / ((second / corrections[1]).sqrt() + EPSILON)
            parameter.mul_(1 - RATE * DECAY).sub_(RATE * change)

    def run(self, x):
        with torch.no_grad():
            self.step(x)

    def result(self):
        return {f"bottleneck.{name}": self.first[place] for name, place in Vmapped.NAMES.items()}


class Isolated(Part):
    pass_ = "training step"

    def __init__(self, *workload, every):
        self.workload = Workload(*workload, torch.bfloat16, every=every)

    def _problem(self, options):
        return Problem(self.workload.cut(options.cut), options.device)

    def _contestants(self, options):
        found = {"kasmina": KasminaTrains, "vmap, torch.compile": lambda problem: VmapTrains(problem, True)}
        found["kasmina, deterministic"] = KasminaTrainsDeterministically
        if not options.quick:
            found |= {"eager loop over seeds": LoopTrains, "vmap, eager": lambda problem: VmapTrains(problem, False)}
        return found

    def _wanted(self, problem, x):
        (group,) = problem.groups
        chunks = x.view(x.shape[0], problem.workload.seeds, -1)[:, group.seeds]
        parameters = {name: value.double().requires_grad_() for name, value in group.parameters.items()}
        for rows in chunks.split(64):
            rows = rows.double()
            ((BLUEPRINTS["bottleneck"](rows, **parameters) - rows).square().sum() / chunks[:, 0].numel()).backward()
        return {f"bottleneck.{name}": value.grad * (1 - BETAS[0]) for name, value in parameters.items()}

    def _bytes(self, problem):
        """Rows of the seeds that train read once; parameters and two moments read and written."""
        workload, (group,) = problem.workload, problem.groups
        numbers = len(group.seeds) * group.blueprint.parameter_count
        rows = workload.rows * len(group.seeds) * workload.chunk
        return rows * workload.dtype.itemsize + 6 * 4 * numbers


# AdamW over a bank of which every other slot trains. Compared are the parameters after the first step.


class KasminaSteps:
    def __init__(self, problem):
        workload, (group,) = problem.workload, problem.groups
        settings = {**OPEN, "max_active_seeds": workload.seeds}
        settings["training"] = {**OPEN["training"], "places": workload.seeds}
        blueprints = [(group.blueprint, workload.seeds)]
        layer = kasmina.Layer(workload.hidden, workload.seeds, blueprints, device="cpu", settings=settings)
        grow(layer, [list(range(workload.seeds))], WAY[:1], workload.dtype)
        grow(layer, [group.seeds], WAY[1:], workload.dtype)
        self.layer = layer.to(problem.device)
        self.slots = self.layer.array("slot").long()
        (self.bank,) = self.layer.banks()
        # Isolated training has counted steps on the way.
        self.layer.bank_array(0, "steps").zero_()
        with torch.no_grad():
            self.bank[self.slots[group.seeds]] = problem.start
        gradient = torch.randn_like(self.bank)
        gradient[self.slots[group.seeds]] = problem.gradient
        self.gradient, self.active = gradient, group.seeds
        self.before = self.bank.detach().clone()

    def run(self, _):
        torch.ops.kasmina.adamw_(self.bank, self.gradient, self.layer._id, 0, Adamw.rate, *BETAS, EPSILON, DECAY)

    def result(self):
        active, self.before = self.slots[self.active], self.before
        frozen = torch.ones(len(self.bank), dtype=torch.bool, device=self.bank.device).index_fill(0, active, False)
        if not torch.equal(self.bank[frozen], self.before[frozen]):
            raise Wrong("slots that do not train have moved")
        del self.before
        return {"parameters": self.bank.detach()[active]}


class TorchSteps:
    """torch's fused AdamW over the slots that train, as if they were a tensor of their own."""

    def __init__(self, problem):
        self.parameter = torch.nn.Parameter(problem.start.clone())
        self.parameter.grad = problem.gradient
        self.optimizer = torch.optim.AdamW([self.parameter], Adamw.rate, BETAS, EPSILON, DECAY, fused=True)

    def run(self, _):
        self.optimizer.step()

    def result(self):
        return {"parameters": self.parameter.detach()}


class Adamw(Part):
    pass_ = "step"
    # So large that one step changes the parameters by as much as they are.
    rate = 0.1

    def _problem(self, options):
        # As many seeds as make the bank much larger than a second-level cache.
        seeds = max(16384 // options.cut, 16)
        problem = Problem(Workload("adamw", 2, seeds * 64, seeds, torch.float32), options.device)
        (group,) = problem.groups
        problem.start = torch.cat([value.flatten(1) for value in group.parameters.values()], 1)
        problem.gradient = torch.randn_like(problem.start)
        return problem

    def _contestants(self, options):
        return {"kasmina": KasminaSteps, "torch.optim.AdamW, fused, active slots only": TorchSteps}

    def _wanted(self, problem, _):
        start, gradient = problem.start.double(), problem.gradient.double()
        # After the first step the corrected moments are the gradient and its square.
        return {"parameters": start * (1 - self.rate * DECAY) - self.rate * gradient / (gradient.abs() + EPSILON)}

    def _bytes(self, problem):
        """Of the slots that train: parameter, gradient and two moments read, all but the gradient written."""
        return 7 * 4 * problem.start.numel()


PARTS = {
    "isolated": Isolated("isolated", 512, 65536, 1024, every=1),
    "isolated_few": Isolated("isolated_few", 8192, 4096, 64, every=16),
    "adamw": Adamw(),
}
