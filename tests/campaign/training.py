"""One run of the campaign: a small network that grows while faults strike it, and a look at everything that must hold.

It runs in a process of its own, from its last checkpoint if there is one. What is wrong is a sentence; a run without
sentences is not corrupted.
"""

import collections
import hashlib
import json
import math
import os
import random
import time

import torch
from faults import STRIKES, bits, same_bits
from growing import QUICK, lead_on
from plan import CAPACITIES, CHUNK, EPOCHS, EXTRA, SEEDS, STEPS

import kasmina
from kasmina import Action, Command, Lifecycle, Strategy

HIDDEN = SEEDS * CHUNK + EXTRA
# Seconds for a compiler that may take no time, and ends all the same.
MOST_WAITING = 60
# The lifecycle, as the specification has it: what leads where.
TABLE = {
    "germinate": ([0], 1),
    "cancel": ([1, 2], 9),
    "start_training": ([1], 2),
    "start_grafting": ([2], 3),
    "stabilise": ([3], 4),
    "evaluate": ([4], 5),
    "fine_tune": ([5], 6),
    "fossilise": ([6], 7),
    "cull": ([2, 5, 6], 8),
    "reset": ([8, 9, 10], 0),
    "roll_back": ([2, 3, 4, 5, 6], 10),
    "pause": ([3], 3),
    "resume": ([3], 3),
}
_SETTINGS = {**QUICK, "training": {**QUICK["training"], "learning_rate": 0.01}}


class Training:
    """The network, its optimisers, and the ledger of what was accepted."""

    def __init__(self, plan, place):
        self.plan, self.place = plan, place
        self.wrong, self.counts = [], collections.Counter()
        torch.manual_seed(plan.number)
        # Breakers go by the clock, which a twin does not share.
        breakers = {"failures": 0 if plan.has_twin() else 3}
        settings = {**_SETTINGS, "random_seed": plan.number, "breakers": breakers}
        layer = kasmina.Layer(HIDDEN, SEEDS, CAPACITIES, settings=settings)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, HIDDEN), torch.nn.Tanh(), layer, torch.nn.Linear(HIDDEN, 3))
        seeds, self.host = kasmina.split_parameters(self.model)
        self.optimizers = [kasmina.AdamW(seeds, lr=0.01), torch.optim.SGD(self.host, lr=0.05, momentum=0.9)]
        self.epoch, self.step, self.accepted, self.emergencies = 0, 0, [], []
        self.flipped = False

    @property
    def layer(self):
        return self.model[2]

    def must(self, holds, sentence):
        if not holds:
            self.wrong.append(f"epoch {self.epoch} step {self.step}: {sentence}")

    def run(self):
        """Trains to the end."""
        while self.epoch < EPOCHS:
            while self.step < STEPS:
                self.meet(lambda fault: fault.kind != "flip")
                self.train()
                self.step += 1
            self.control()
            self.meet_flips()
            self.end_epoch()
            self.epoch, self.step = self.epoch + 1, 0
            self.save()
        # One epoch in which nothing happens: a kernel may have come before the last one ended, or just after.
        self.end_epoch()

    def meet(self, wanted):
        for fault in filter(wanted, self.plan.at(self.epoch, self.step)):
            self.counts[fault.kind] += 1
            STRIKES[fault.kind](self, random.Random(fault.seed))

    def meet_flips(self):
        """Flips come when the steps are done: what is damaged is found at the epoch's end, not before."""
        before = self.counts["flip"]
        for self.step in range(STEPS):
            self.meet(lambda fault: fault.kind == "flip")
        self.flipped = self.counts["flip"] > before

    # One step, and its twin without the seeds that are not part of the network.

    def train(self):
        dice = torch.Generator().manual_seed((self.plan.number * EPOCHS + self.epoch) * STEPS + self.step)
        x = torch.randn(4, 6, generator=dice)
        try:
            self.layer.wait_for_kernels()
        except kasmina.Error:
            self.counts["kernels that could not be had"] += 1
        entered, left, y = self.both_ways(x)
        self.check_identities(entered, left)
        if not any(3 <= state <= 7 for state in self.layer.states()):
            self.check_twin(x, y)
        self.must(bool(y.isfinite().all()), "an output is not finite")
        for optimizer in self.optimizers:
            optimizer.step()
        self.must(all(bool(weight.isfinite().all()) for weight in self.host), "a host weight is not finite")
        self.counts["steps"] += 1

    def both_ways(self, x):
        """What goes into the layer, what comes out, and the output, after the backward pass. Whoever resumes has to compile what
        runs, if nobody has before; where the process allows a compile next to no time, the step has to be tried again."""
        give_up = time.monotonic() + MOST_WAITING
        while True:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            entered = self.model[1](self.model[0](x))
            entered.retain_grad()
            try:
                left = self.layer(entered)
                left.retain_grad()
                y = self.model[3](left)
                (y - x[:, :3].square()).square().mean().backward()
                return entered, left, y
            except RuntimeError as error:
                if not self.plan.has("compile") or "to compile" not in str(error) or time.monotonic() > give_up:
                    raise
            self.counts["steps tried again when a compiler had ended"] += 1
            time.sleep(0.05)

    def check_identities(self, entered, left):
        """The chunks of seeds that apply no blueprint pass both ways bit for bit."""
        for seed, state in enumerate(self.layer.states()):
            if not 3 <= state <= 7:
                chunk = slice(seed * CHUNK, (seed + 1) * CHUNK)
                output = same_bits(entered[:, chunk], left[:, chunk])
                gradient = same_bits(entered.grad[:, chunk], left.grad[:, chunk])
                self.must(output, f"seed {seed} in {state.name} changed the output")
                self.must(gradient, f"seed {seed} in {state.name} changed the gradient")
                self.counts["identity chunks compared"] += 1
        self.must(same_bits(entered[:, -EXTRA:], left[:, -EXTRA:]), "channels left over were changed")

    def check_twin(self, x, y):
        """While no seed is part of the network, it is the network without the layer, bit for bit."""
        without = torch.nn.Sequential(*[part for part in self.model if part is not self.layer])
        output = without(x)
        found = torch.autograd.grad((output - x[:, :3].square()).square().mean(), self.host)
        self.must(same_bits(output, y), "seeds in identity states changed the network's output")
        same = all(same_bits(gradient, weight.grad) for gradient, weight in zip(found, self.host))
        self.must(same, "seeds in identity states changed the host's gradients")
        self.counts["steps compared with a twin"] += 1

    # The controller, the ledger, the end of an epoch.

    def control(self):
        dice = random.Random(f"{self.plan.number}/{self.epoch}")
        for seed, state in enumerate(self.layer.states()):
            if state == Lifecycle.DORMANT and dice.random() < 0.6:
                bank, strategy = dice.randrange(len(self.layer.banks())), Strategy(dice.randrange(4))
                self.submit(Command(seed, Action.GERMINATE, blueprint=bank, strategy=strategy))
            elif state in (2, 5, 6) and dice.random() < 0.1:
                self.submit(Command(seed, Action.CULL))
            elif state in (1, 2) and dice.random() < 0.05:
                self.submit(Command(seed, Action.CANCEL))
            elif command := lead_on(seed, state):
                self.submit(command)
        pair = [Command(dice.randrange(SEEDS), Action(dice.randrange(1, 14))) for _ in range(2)]
        self.submit(*pair)

    def submit(self, *commands):
        try:
            self.layer.submit(*commands)
        except kasmina.Error:
            self.counts["commands refused"] += len(commands)
        else:
            self.accepted += [(command.seed, command.action.name.lower()) for command in commands]
            self.counts["commands accepted"] += len(commands)

    def end_epoch(self):
        try:
            self.layer.wait_for_kernels()
        except kasmina.Error:
            self.counts["kernels that could not be had"] += 1
        ended, known = self.layer.epoch, self.layer.states()
        summary = self.layer.end_epoch(metric=math.sin(self.epoch))
        self.counts["repairs"] += len(summary["repaired"])
        self.must(bool(summary["repaired"]) == self.flipped, f"damage {self.flipped}, repairs {summary['repaired']}")
        self.flipped = False
        self.must(self.layer.epoch == ended + 1, "an epoch's end did not count")
        # Emergencies come first, and happened already.
        emergencies = [(record["seed"], record["action"]) for record in summary["applied"][: len(self.emergencies)]]
        applied = summary["applied"][len(self.emergencies) :]
        self.must(emergencies == self.emergencies, f"emergencies {emergencies} were reported of {self.emergencies}")
        done = [(record["seed"], record["action"]) for record in applied]
        done += [(command["seed"], command["action"]) for batch in summary["refused"] for command in batch["commands"]]
        lost = collections.Counter(self.accepted)
        lost.subtract(collections.Counter(done))
        odd = {command: count for command, count in lost.items() if count}
        self.must(not odd, f"accepted commands were lost (above 0) or applied twice (below 0): {odd}")
        for record in applied:
            sources, goal = TABLE[record["action"]]
            source, reached = Lifecycle[record["from"]], Lifecycle[record["to"]]
            self.must(known[record["seed"]] == source, f"a transition began in {source.name}, not where the seed was")
            culled = record["action"] == "fine_tune" and record["culled_for"] is not None
            self.must(source in sources and reached == (8 if culled else goal), f"{record} is no transition")
            known[record["seed"]] = reached
            self.counts[f"reached {reached.name}"] += 1
        self.must(known == self.layer.states(), "states changed without a transition")
        self.accepted, self.emergencies = [], []
        self.check_state()

    def check_state(self):
        layer = self.layer
        states = [Lifecycle(state) for state in layer.array("lifecycle").tolist()]
        self.must(states == layer.states(), "host and device have different states")
        places = list(zip(layer.array("blueprint").tolist(), layer.array("slot").tolist()))
        held = [place for place in places if place != (-1, -1)]
        self.must(len(set(held)) == len(held), f"two seeds have one slot: {places}")
        for state, place in zip(states, places):
            self.must((state == 0) == (place == (-1, -1)), f"a seed in {state.name} has the slot {place}")
        alpha = layer.alpha
        self.must(bool(((alpha >= 0) & (alpha <= 1)).all()), f"alpha left 0 to 1: {alpha.tolist()}")
        for index in range(len(layer.banks())):
            modes = layer.bank_array(index, "mode").tolist()
            trained = {slot for slot, mode in enumerate(modes) if mode == 1}
            wanted = {slot for state, (bank, slot) in zip(states, places) if bank == index and state in (3, 6)}
            self.must(trained == wanted, f"slots {trained} of bank {index} train on the main loss, not {wanted}")

    # Checkpoints.

    def everything(self):
        """All that a checkpoint must bring back, as a dict of tensors and numbers."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        ledger = {"epoch": self.epoch, "accepted": self.accepted, "emergencies": self.emergencies}
        return {"model": self.model.state_dict(), "optimizers": optimizers, "ledger": ledger}

    def digest(self):
        hasher = hashlib.sha256(bits(self.layer.get_extra_state()))
        for tensor in [*self.host, *(state["momentum_buffer"] for state in self.optimizers[1].state.values())]:
            hasher.update(bits(tensor))
        return hasher.hexdigest()

    def save(self):
        path = os.path.join(self.place, "checkpoint")
        try:
            with open(f"{path}.partial", "wb") as file:
                torch.save({**self.everything(), "digest": self.digest(), "counts": dict(self.counts)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{path}.partial", path)
            self.counts["checkpoints saved"] += 1
        except (OSError, RuntimeError):
            self.counts["checkpoints that the disk had no room for"] += 1
            if os.path.exists(f"{path}.partial"):
                os.remove(f"{path}.partial")

    def resume(self):
        """Goes on from the last checkpoint, if there is one."""
        path = os.path.join(self.place, "checkpoint")
        if not os.path.exists(path):
            return
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        # Banks that the checkpoint has and a fresh layer has not.
        known = {id(p) for group in self.optimizers[0].param_groups for p in group["params"]}
        for bank in self.layer.banks():
            if id(bank) not in known:
                self.optimizers[0].add_param_group({"params": [bank]})
        for optimizer, state in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        ledger = saved["ledger"]
        self.epoch = ledger["epoch"]
        self.accepted = [tuple(entry) for entry in ledger["accepted"]]
        self.emergencies = [tuple(entry) for entry in ledger["emergencies"]]
        self.counts = collections.Counter(saved["counts"])
        self.must(self.digest() == saved["digest"], "what was loaded is not what was saved")
        self.counts["resumed"] += 1


def run(plan, place, answer):
    """Runs or resumes a run and writes what came of it to the file `answer`."""
    training = Training(plan, place)
    training.resume()
    training.run()
    result = {"wrong": training.wrong, "counts": training.counts, "digest": training.digest()}
    with open(f"{answer}.partial", "w") as file:
        json.dump(result, file)
    os.replace(f"{answer}.partial", answer)
