"""What one rank of a data-parallel run does: `python rank.py RANK RANKS PORT DEVICE FILE SCENARIO...`.

Each scenario is a function; what it returns goes to FILE as JSON, for `test_distributed.py` to compare with that of the
other ranks.
"""

import datetime
import hashlib
import json
import os
import signal
import sys
import time
import types

import torch
import torch.distributed as dist
from growing import QUICK, layer_of, lead_on
from torch.nn.parallel import DistributedDataParallel

import kasmina
from kasmina import Action, Command, Lifecycle, Strategy
from kasmina.distributed import RankLost, RanksDisagree, Replicas, replicas

# How long ranks wait for one that is not there, in the scenarios in which one is not.
SHORT = 4.0

_SETTINGS = {
    **QUICK,
    "ramp_steps": 3,
    "grafting": {**QUICK["grafting"], "base_rate": 0.4},
    "training": {"loss_threshold": 0.5, "learning_rate": 0.02},
}


class Model(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first, self.layer, self.last = torch.nn.Linear(6, 32), layer, torch.nn.Linear(32, 3)

    def forward(self, x):
        return self.last(self.layer(torch.tanh(self.first(x))))


class Run:
    """A model with a layer, its replicas, and a trainer with data of this rank's own."""

    def __init__(self, world, *, timeout=60.0, wrapped=True, dtype=torch.float32, breakers=None):
        self.world = world
        torch.manual_seed(7)
        settings = {**_SETTINGS, "random_seed": 11, "breakers": breakers or {}}
        # Only the first rank's layer counts; the others' have other settings and parameters until they meet.
        if world.rank > 0:
            settings["ramp_steps"] = 17
        self.layer = layer_of(
            [("bottleneck", 5), ("mlp", 4)], hidden=32, seeds=8, device=world.device, dtype=dtype, settings=settings
        )
        self.replicas = Replicas(self.layer, timeout=datetime.timedelta(seconds=timeout))
        self.model = Model(self.layer).to(world.device, dtype)
        self.wrapped = self.model
        if wrapped:
            devices = [world.device] if world.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.model, device_ids=devices)
        seeds, others = kasmina.split_parameters(self.model)
        self.optimizers = [kasmina.AdamW(seeds, lr=0.01), torch.optim.SGD(others, lr=0.05, momentum=0.9)]
        self.data = torch.Generator().manual_seed(1000 + world.rank)
        self.loss = 0.0

    def step(self, rows=8):
        x = torch.randn(rows, 6, generator=self.data).to(self.world.device, self.layer.dtype)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = (self.wrapped(x) - x[:, :3].square()).square().mean()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.loss = loss.item()

    def epoch(self, commands=(), steps=2):
        for _ in range(steps):
            self.step()
        self.replicas.submit(*commands)
        return self.replicas.end_epoch(metric=-self.loss)

    def digest(self):
        """Everything that must be the same on all ranks."""
        hasher = hashlib.sha256()
        for name in "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count".split():
            hasher.update(self.layer.array(name).cpu().numpy().tobytes())
        for name in ("germinations", "strategy_memory"):
            hasher.update(self.layer.array(name).cpu().numpy().tobytes())
        for index in range(2):
            for name in ("parameters", "first_moment", "second_moment", "steps", "mode"):
                hasher.update(self.layer.bank_array(index, name).detach().cpu().numpy().tobytes())
        for name, parameter in self.model.named_parameters():
            hasher.update(parameter.detach().cpu().numpy().tobytes())
        # What is seen of the seeds; how far compilers are is each rank's own.
        report = self.layer.report()
        seen = [(seed["metrics"], seed["fallback_used"], seed["non_finite_seen"]) for seed in report["seeds"]]
        hasher.update(json.dumps([seen, report["totals"], report["epoch"]]).encode())
        return hasher.hexdigest()


def life(world):
    """Sixty epochs under a controller that only the first rank has."""
    run = Run(world)
    run.layer.set_strategy(lambda seen, memory: (0.3 + min(0.1, abs(seen.improvement)), memory + seen.gradient_norm))
    digests, transitions, refused, held = [], [], 0, 0
    chooser = torch.Generator().manual_seed(5)
    for epoch in range(60):
        commands = controller(run.layer, chooser) if world.rank == 0 else []
        try:
            summary = run.epoch(commands)
        except kasmina.TransitionRefused:
            refused += 1
            summary = run.replicas.end_epoch()
        transitions += [(record["from"], record["to"]) for record in summary["applied"]]
        held += len(summary["held"])
        if epoch % 7 == 3:
            # A rank that saw something go wrong takes a seed out; the others have nothing to say.
            wanted = [seed for seed, state in enumerate(run.layer.states()) if 2 <= state <= 6]
            run.replicas.roll_back(*wanted[:1] if world.rank == world.count - 1 else (), reason="its loss spiked")
        digests.append((run.digest(), json.dumps(summary)))
    return {"digests": digests, "transitions": transitions, "refused": refused, "held": held}


def controller(layer, chooser):
    """Sends a few seeds on, drops some; what a gate may still refuse is sent alone."""
    commands, draw = [], lambda most: int(torch.randint(most, (1,), generator=chooser))
    for seed, entry in enumerate(layer.report()["seeds"]):
        state = Lifecycle[entry["state"]]
        if state == Lifecycle.DORMANT and draw(3) == 0:
            commands.append(Command(seed, Action.GERMINATE, blueprint=draw(2), strategy=Strategy(draw(5))))
        elif state in (Lifecycle.TRAINING, Lifecycle.EVALUATING, Lifecycle.FINE_TUNING) and draw(8) == 0:
            commands.append(Command(seed, Action.CULL, reason="a whim"))
        elif state == Lifecycle.GERMINATED and draw(8) == 0:
            commands.append(Command(seed, Action.CANCEL))
        elif (command := lead_on(seed, state)) and open_gate(state, entry):
            commands.append(command)
    if draw(10) == 0:
        commands.append(Command(draw(8), Action.FOSSILISE))
    free = [[c for c in commands if c.action == Action.GERMINATE and c.blueprint == bank] for bank in range(2)]
    for bank, most in ((0, 5), (1, 4)):
        taken = sum(entry["blueprint"] == bank for entry in layer.report()["seeds"])
        for command in free[bank][max(0, most - taken) :]:
            commands.remove(command)
    return commands


def open_gate(state, entry):
    if state == Lifecycle.TRAINING:
        return entry["metrics"]["loss"] is not None and entry["metrics"]["loss"] <= 0.5
    if state == Lifecycle.GRAFTING:
        return entry["alpha"] == 1.0
    if state == Lifecycle.CULLED:
        return entry["embargo"] <= 1
    return True


def like_one(world):
    """Two ranks with half of the rows each do what one process does with all of them."""
    run = Run(world, dtype=torch.float64)
    whole = Model(layer_of([("bottleneck", 5), ("mlp", 4)], hidden=32, seeds=8, dtype=torch.float64)).to(world.device)
    whole = whole.double()
    whole.load_state_dict(run.model.state_dict())
    parameters, others = kasmina.split_parameters(whole)
    optimizers = [kasmina.AdamW(parameters, lr=0.01), torch.optim.SGD(others, lr=0.05, momentum=0.9)]
    data = [torch.Generator().manual_seed(1000 + rank) for rank in range(world.count)]
    furthest = 0.0
    order = [Action.GERMINATE, Action.START_TRAINING, None, Action.START_GRAFTING, None, None, None, None, Action.STABILISE]
    for action in order:
        commands = [Command(2, action, strategy=Strategy.GRAD_NORM_GATED)] if action else []
        if action == Action.START_TRAINING:
            whole.layer.wait_for_kernels()
        whole.layer.submit(*commands)
        for _ in range(2):
            # No row is learned from in isolation here: there, ranks take steps of their own.
            rows = [torch.randn(8, 6, generator=generator).to(world.device, torch.float64) for generator in data]
            x = torch.cat(rows)
            for optimizer in optimizers:
                optimizer.zero_grad()
            whole.layer.train(Lifecycle.TRAINING not in whole.layer.states())
            loss = (whole(x) - x[:, :3].square()).square().mean()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            run.layer.train(Lifecycle.TRAINING not in run.layer.states())
            run.step()
        whole.layer.train(), run.layer.train()
        if Lifecycle.TRAINING in run.layer.states():
            # One step from the same rows everywhere, so that all the averages are what one process has.
            with torch.no_grad():
                fixed = torch.linspace(-1, 1, 8 * 32, device=world.device, dtype=torch.float64).view(8, 32)
                whole.layer(fixed), run.layer(fixed)
        if commands:
            run.replicas.submit(*commands)
        run.replicas.end_epoch(), whole.layer.end_epoch()
        for mine, theirs in zip(run.model.parameters(), whole.parameters()):
            furthest = max(furthest, (mine - theirs).abs().max().item())
        furthest = max(furthest, (run.layer.alpha - whole.layer.alpha).abs().max().item())
        for seed, other in zip(run.layer.report()["seeds"], whole.layer.report()["seeds"]):
            for name in ("mean", "variance", "gradient_norm", "dead_ratio"):
                one, two = seed["metrics"][name], other["metrics"][name]
                if one is not None and two is not None and Lifecycle[seed["state"]] != Lifecycle.TRAINING:
                    furthest = max(furthest, abs(one - two) / max(1.0, abs(two)))
    return {"furthest": furthest, "state": run.layer.states()[2].name, "alpha": run.layer.alpha[2].item()}


def caught(action):
    """What an action raises, as the parent compares it."""
    start = time.monotonic()
    try:
        action()
    except (RankLost, RanksDisagree) as error:
        ranks, seeds = getattr(error, "ranks", None), getattr(error, "seeds", None)
        kind = type(error).__name__
        return {"kind": kind, "message": str(error), "ranks": ranks, "seeds": seeds, "seconds": time.monotonic() - start}
    return {"kind": None}


def other_commands(world):
    run = Run(world)
    run.epoch([Command(1, Action.GERMINATE)])
    error = caught(lambda: run.replicas.submit(Command(world.rank, Action.GERMINATE)))
    assert caught(run.replicas.end_epoch)["kind"] == "RanksDisagree", "they go on although they differ"
    return error


def other_place(world):
    """One rank ends an epoch while the others submit."""
    run = Run(world)
    return caught(run.replicas.end_epoch if world.rank == 1 else lambda: run.replicas.submit(Command(0, Action.GERMINATE)))


def same_refusal(world):
    """A refusal is the same error on all ranks, and nothing is broken by it."""
    run = Run(world)
    try:
        run.replicas.submit(Command(3, Action.FOSSILISE))
        refusal = None
    except kasmina.TransitionRefused as error:
        refusal = str(error)
    run.epoch([Command(1, Action.GERMINATE)])
    return {"refusal": refusal, "states": [state.name for state in run.layer.states()]}


def other_parameters(world):
    """Somebody changes the parameters of one seed on one rank."""
    run = Run(world)
    run.epoch([Command(seed, Action.GERMINATE) for seed in range(4)])
    run.epoch([Command(seed, Action.START_TRAINING) for seed in range(4)])
    run.epoch()
    run.epoch([Command(seed, Action.START_GRAFTING) for seed in range(4)])
    run.epoch()
    if world.rank == 1:
        with torch.no_grad():
            run.layer.bank_0[run.layer.array("slot")[2].item(), 0] += 1e-6
    return caught(run.replicas.end_epoch)


def other_state(world):
    """Commands that went past the replicas on one rank."""
    run = Run(world)
    if world.rank == 1:
        run.layer.germinate(5)
    return caught(run.replicas.end_epoch)


def other_banks(world):
    run = Run(world)
    if world.rank == 1:
        run.layer.add_blueprint("residual", 2)
    return caught(run.replicas.end_epoch)


def other_kernels(world):
    """One rank cannot have a kernel; no seed of any rank may then begin to train."""
    run = Run(world)
    run.epoch([Command(1, Action.GERMINATE)])

    def fail():
        raise kasmina.Error("the compiler failed", 3001)

    if world.rank == 1:
        run.layer.wait_for_kernels = fail
    error = caught(lambda: run.replicas.submit(Command(1, Action.START_TRAINING)))
    return {**error, "state": run.layer.states()[1].name}


def fail_on_one(world, run):
    """An epoch in which the gradient of seed 0 is not finite on one rank."""
    target = torch.zeros(4, 32, device=world.device)
    if world.rank == 1:
        target[1, 2] = float("nan")
    run.layer(torch.randn(4, 32, device=world.device), target)
    run.replicas.end_epoch()


def non_finite(world):
    """A gradient that is not finite on one rank counts on all."""
    run = Run(world)
    run.epoch([Command(0, Action.GERMINATE)])
    run.epoch([Command(0, Action.START_TRAINING)])
    fail_on_one(world, run)
    seed = run.layer.report()["seeds"][0]
    return {"seen": seed["non_finite_seen"], "errors": seed["error_count"], "digest": run.digest()}


def grown(world):
    """Two seeds train in isolation, one grafts."""
    run = Run(world)
    run.epoch([Command(seed, Action.GERMINATE) for seed in range(3)])
    run.epoch([Command(seed, Action.START_TRAINING) for seed in range(3)])
    run.epoch()
    run.epoch([Command(0, Action.START_GRAFTING)])
    return run


def snapshots(world):
    """Back to the middle of an epoch and to its end: each rank is what it was, bit for bit, and they go on together."""
    run = grown(world)
    kept, ended = run.replicas.snapshot(), run.layer.to_bytes()
    run.step()
    run.replicas.submit(Command(4, Action.GERMINATE))
    # Now the ranks differ in what they have seen, and in what seeds 1 and 2 have learned from it.
    middle, halfway = run.replicas.snapshot(), run.layer.to_bytes()
    run.step()
    run.replicas.submit(Command(5, Action.GERMINATE))
    run.replicas.roll_back(0)
    restoration = run.replicas.restore(middle, "it spiked" if world.rank == world.count - 1 else "")
    same = [run.layer.to_bytes() == halfway]
    run.step()
    run.replicas.end_epoch()
    states = [state.name for state in run.layer.states()]
    run.replicas.restore(kept)
    same.append(run.layer.to_bytes() == ended)
    run.epoch()
    again, later = run.replicas.snapshot(into=kept), run.layer.to_bytes()
    run.epoch()
    run.replicas.restore(kept)
    same += [again is kept, run.layer.to_bytes() == later]
    # What is the same refusal everywhere breaks nothing.
    run.layer.add_blueprint("residual", 2)
    refusal = None
    try:
        run.replicas.restore(kept)
    except kasmina.SnapshotMismatch as error:
        refusal = str(error)
    run.replicas.verify()
    return {
        "same": same, "states": states, "restoration": restoration, "refusal": refusal, "digest": run.digest(),
        "differed": hashlib.sha256(halfway).hexdigest(), "told": repr([kept, middle]),
    }  # fmt: skip


def other_snapshot(world):
    """One rank restores another snapshot than the others."""
    run = grown(world)
    kept = [run.replicas.snapshot() for _ in range(2)]
    return caught(lambda: run.replicas.restore(kept[world.rank == 1]))


def other_weights(world):
    """A snapshot of layers that are not the same any more."""
    run = grown(world)
    if world.rank == 1:
        with torch.no_grad():
            run.layer.bank_0[run.layer.array("slot")[0].item(), 0] += 1e-6
    return caught(run.replicas.snapshot)


def failed_restore(world):
    """One rank cannot restore."""
    run = grown(world)
    kept = run.replicas.snapshot()

    def fail(snapshot, reason):
        raise kasmina.Error("the device failed", 4001)

    if world.rank == 1:
        run.layer.restore = fail
    error = caught(lambda: run.replicas.restore(kept))
    assert caught(run.replicas.end_epoch)["kind"] == "RanksDisagree", "they go on although they differ"
    return error


def clock(world):
    """Circuit breakers open and close by the clock of the first rank; those of the others say something else."""
    now = [50.0 if world.rank == 0 else 1e6 * world.rank]
    replicas.time = types.SimpleNamespace(monotonic=lambda: now[0])
    try:
        run = Run(world, wrapped=False, breakers={"failures": 2, "window_seconds": 60.0, "open_seconds": 60.0})
        run.epoch([Command(0, Action.GERMINATE)])
        run.epoch([Command(0, Action.START_TRAINING)])
        seen, refusal = [], None
        for seconds in (20, 20, 50, 20):
            now[0] += seconds if world.rank == 0 else 1000 * world.rank
            fail_on_one(world, run) if len(seen) < 2 else run.replicas.end_epoch()
            seen.append(run.layer.report()["breakers"])
            if len(seen) == 3:
                try:
                    run.replicas.submit(Command(1, Action.GERMINATE))
                except kasmina.TransitionRefused as error:
                    refusal = str(error)
        run.replicas.submit(Command(1, Action.GERMINATE))
        run.replicas.end_epoch()
        return {"seen": seen, "refusal": refusal, "state": run.layer.states()[1].name}
    finally:
        replicas.time = time


def killed(world, victim):
    """A rank is killed in the middle of an epoch."""
    run = Run(world, timeout=SHORT, wrapped=False)
    run.epoch([Command(1, Action.GERMINATE)])
    run.step()
    if world.rank == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return caught(run.replicas.end_epoch)


def killed_first(world):
    return killed(world, 0)


def killed_last(world):
    return killed(world, world.count - 1)


def killed_wrapped(world):
    """The same while DistributedDataParallel averages gradients: then the error is its own."""
    run = Run(world, timeout=SHORT)
    run.epoch()
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    start = time.monotonic()
    try:
        run.epoch()
    except RuntimeError as error:
        return {"kind": type(error).__name__, "message": str(error), "seconds": time.monotonic() - start}
    return {"kind": None}


def lagging(world):
    """A rank comes long after the others gave up."""
    run = Run(world, timeout=SHORT, wrapped=False)
    run.epoch([Command(1, Action.GERMINATE)])
    if world.rank == world.count - 1:
        time.sleep(3 * SHORT)
    return caught(run.replicas.end_epoch)


class World:
    def __init__(self, rank, count, device):
        self.rank, self.count = rank, count
        self.device = torch.device("cpu")
        if device == "cuda":
            self.device = torch.device("cuda", rank % torch.cuda.device_count())
            torch.cuda.set_device(self.device)

    def backend(self):
        return "nccl" if self.device.type == "cuda" and torch.cuda.device_count() >= self.count else "gloo"


def main():
    rank, count, port, device, file, *scenarios = sys.argv[1:]
    world = World(int(rank), int(count), device)
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    patience = datetime.timedelta(seconds=SHORT if scenarios[0].startswith(("killed", "lagging")) else 120)
    dist.init_process_group(world.backend(), rank=world.rank, world_size=world.count, timeout=patience)
    results = {"backend": world.backend()}
    for scenario in scenarios:
        results[scenario] = globals()[scenario](world)
        with open(file, "w") as output:
            json.dump(results, output)
    # Not waiting for ranks that are no longer there.
    os._exit(0)


if __name__ == "__main__":
    main()
