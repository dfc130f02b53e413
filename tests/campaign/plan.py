"""What a run of the campaign is made of: everything in it follows from its number."""

import dataclasses
import random

EPOCHS, STEPS = 14, 2
SEEDS, CHUNK, EXTRA = 5, 4, 1
# Slots of the banks: a bottleneck, an mlp, and a residual.
CAPACITIES = (("bottleneck", 3), ("mlp", 2), ("residual", 1))

KINDS = ("nan", "compile", "disk", "flip", "kill", "storm", "memory")
# What must not change how a run ends.
WITHOUT_TRACE = ("kill", "flip", "disk")


@dataclasses.dataclass
class Fault:
    """A fault and where it strikes: before this step of this epoch, or (a flip) before its end."""

    kind: str
    epoch: int
    step: int
    # The fault's own dice.
    seed: int


@dataclasses.dataclass
class Plan:
    """A run: its number and its faults, in order."""

    number: int
    faults: list
    twin: bool = False

    def has_twin(self):
        """Whether it ends as a run ends that was left in peace. What a compiler manages in no time is not the same twice."""
        return self.twin or (not self.has("compile") and any(self.has(kind) for kind in WITHOUT_TRACE))

    def in_peace(self):
        """The twin: the plan without what must not make a difference."""
        return Plan(self.number, [fault for fault in self.faults if fault.kind not in WITHOUT_TRACE], twin=True)

    def at(self, epoch, step):
        return [fault for fault in self.faults if (fault.epoch, fault.step) == (epoch, step)]

    def has(self, kind):
        return any(fault.kind == kind for fault in self.faults)


def plan(campaign, number):
    """One to four faults; every kind comes first in one of seven runs, so none is left to chance."""
    dice = random.Random(f"{campaign}/{number}")
    kinds = [KINDS[number % len(KINDS)], *dice.choices(KINDS, k=dice.randrange(4))]
    faults = [Fault(kind, 1 + dice.randrange(EPOCHS - 1), dice.randrange(STEPS), dice.getrandbits(32)) for kind in kinds]
    return Plan(number, sorted(faults, key=lambda fault: (fault.epoch, fault.step)))
