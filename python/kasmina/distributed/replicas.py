"""The replicas of one layer on all ranks, and what must happen to all of them at once.

What the ranks' own data made of a layer is reduced over the ranks before anything is decided by it: then every rank decides
alike by itself, and that it did is checked.
"""

import datetime
import time

import torch

from .._native import Error
from ..layer import Action
from .fingerprint import combined, fingerprints
from .ranks import Ranks, others

# Columns of the telemetry: all are sums but these.
_MINIMUM, _MAXIMUM, _GRADIENT_SQUARES = 3, 4, 8
# The mode of a slot whose seed trains in isolation.
_ISOLATED = 2
# How many seeds an error names.
_SHOWN = 16


class ReplicaSnapshot:
    """A layer on all ranks as it was: what `Replicas.snapshot` gives and `Replicas.restore` takes."""

    # Which of the replicas' snapshots it is, and how many epochs had ended.
    number = epoch = None
    _own = _checksums = None

    def __repr__(self):
        return f"kasmina.distributed.ReplicaSnapshot(number={self.number}, epoch={self.epoch})"


class Replicas:
    """The replicas of a layer: one on each rank of `group`, all ranks by default.

    Every rank makes one, before the model goes into `DistributedDataParallel`: it gives all ranks the layer of the first.
    From then on every rank calls the methods here instead of the layer's own, at the same places of the program. A rank
    that does not come within `timeout`, or dies, is a `RankLost` on all others; ranks that were told different things, or
    whose layers became different, a `RanksDisagree` that names them. After either the replicas refuse to go on.

    The layer's forward and backward passes are as ever, and talk to nobody: seeds in TRAINING learn from their own rank's
    rows, and the end of the epoch averages their parameters and moments over the ranks. Circuit breakers go by the clock of
    the first rank, which tells the others the time at each of these calls.
    """

    def __init__(self, layer, *, group=None, timeout=datetime.timedelta(minutes=5)):
        self.layer = layer
        self._ranks = Ranks(group, timeout)
        self._snapshots = 0
        self.synchronise()

    def synchronise(self):
        """Gives all ranks the layer of the first: its state, parameters, blueprints and settings."""
        first = self._ranks.is_first()
        checkpoint = self._ranks.broadcast(self.layer.get_extra_state() if first else None)
        self._ranks.alike("synchronise", lambda: first or self.layer.set_extra_state(checkpoint))
        self._gather("synchronise")
        self.verify()

    def submit(self, *commands):
        """`Layer.submit` on all ranks. Ranks that give no commands take those of the others; ranks that do must give the
        same, with the same evidence."""
        given = self._gather("submit", commands)
        said = {rank: repr(commands) for rank, commands in zip(self._ranks.members, given) if commands}
        if len(set(said.values())) > 1:
            told = "; ".join(f"rank {rank}: {text}" for rank, text in said.items())
            self._ranks.fail(f"the ranks were given different commands: {told}", others(said.values(), said))
        commands = next(filter(None, given), ())
        if any(command.action == Action.START_TRAINING for command in commands):
            self._wait_for_kernels()
        self._ranks.alike("submit", lambda: self.layer.submit(*commands))

    def roll_back(self, *seeds, reason=""):
        """`Layer.roll_back` on all ranks, at once, of every seed that any rank names; a rank may name none."""
        given = self._gather("roll_back", (seeds, reason))
        reasons = {seed: reason for seeds, reason in reversed(given) for seed in seeds}
        refusal = None
        for seed, reason in sorted(reasons.items()):
            try:
                self._ranks.alike(f"roll_back of seed {seed}", lambda: self.layer.roll_back(seed, reason))
            except Error as error:  # One that cannot be taken out keeps no other in.
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    def end_epoch(self, metric=None):
        """`Layer.end_epoch` on all ranks. What they saw is added up first; `metric` is the mean of what ranks give."""
        metric = None if metric is None else float(metric)
        given = self._gather("end_epoch", (metric, [tuple(bank.shape) for bank in self.layer.banks()]))
        metrics = [metric for metric, _ in given if metric is not None]
        metric = sum(metrics) / len(metrics) if metrics else None
        banks = [shapes for _, shapes in given]
        if odd := others(banks, self._ranks.members):
            told = "; ".join(f"rank {rank}: {shapes}" for rank, shapes in zip(self._ranks.members, banks))
            self._ranks.fail(f"the ranks' layers have different banks: {told}", odd)
        self._wait_for_kernels()
        self._reduce()
        summary = self._ranks.alike("end_epoch", lambda: self.layer.end_epoch(metric))
        self.verify()
        return summary

    def snapshot(self, into=None):
        """`Layer.snapshot` on all ranks, of layers that are found to be the same. `into` is an earlier one of these, which is taken
        anew. In the middle of an epoch, what a rank has seen, and what seeds in TRAINING have learned from that, is its own and
        not compared.
        """
        self._gather("snapshot")
        snapshot = into or ReplicaSnapshot()
        snapshot._own = self._ranks.alike("snapshot", lambda: self.layer.snapshot(snapshot._own))
        self._compare(learning=False)
        self._snapshots += 1
        snapshot.number, snapshot.epoch, snapshot._checksums = self._snapshots, self.layer.epoch, self._checksums()
        return snapshot

    def restore(self, snapshot, reason=""):
        """`Layer.restore` on all ranks, from the next forward on. All of them restore the same snapshot, and then are what they
        were, which is checked. A rank may leave the reason to the others.
        """
        given = self._gather("restore", (snapshot.number, reason))
        numbers = [number for number, _ in given]
        if odd := others(numbers, self._ranks.members):
            told = "; ".join(f"rank {rank}: {number}" for rank, number in zip(self._ranks.members, numbers))
            self._ranks.fail(f"the ranks were to restore different snapshots, by their numbers: {told}", odd)
        reason = next((reason for _, reason in given if reason), "")
        restoration = self._ranks.alike("restore", lambda: self._restore(snapshot, reason))
        self._compare(learning=False)
        return restoration

    def _restore(self, snapshot, reason):
        restoration = self.layer.restore(snapshot._own, reason)
        if not torch.equal(self._checksums(), snapshot._checksums):
            raise RuntimeError("kasmina: what was restored is not what the snapshot was of")
        return restoration

    @torch.no_grad()
    def _checksums(self):
        """One for each seed, with what seeds in TRAINING have learned on this rank."""
        return combined(fingerprints(self.layer)[1]).cpu()

    def verify(self):
        """Checks that the layer is the same on all ranks, bit for bit, and names the ranks and seeds that differ."""
        self._compare(learning=True)

    @torch.no_grad()
    def _compare(self, learning):
        names, rows = fingerprints(self.layer, learning)
        numbers = combined(rows).cpu()
        # The complement turns the order round: one reduction finds the smallest and the largest.
        ends = torch.stack([numbers, ~numbers])
        self._ranks.reduce(ends, "minimum")
        seeds = (ends[0] != ~ends[1]).nonzero().flatten().tolist()
        if not seeds:
            return
        shown = seeds[:_SHOWN]
        found = self._gather("what differs", rows[:, shown].tolist())
        odd = others(found, self._ranks.members)
        differing = [name for name, *values in zip(names, *found) if any(value != values[0] for value in values)]
        more = f" and {len(seeds) - _SHOWN} more" if len(seeds) > _SHOWN else ""
        self._ranks.fail(
            f"after {self.layer.epoch} epochs the layer is not the same on all ranks: seeds {shown}{more} of ranks {odd} have "
            f"another {', '.join(differing)} than the other ranks",
            odd,
            seeds,
        )

    @torch.no_grad()
    def _reduce(self):
        """Makes what ranks saw and learned by themselves the same on all of them."""
        layer, count = self.layer, len(self._ranks.members)
        columns = layer.telemetry.t()
        sums = [column for column in range(len(columns)) if column not in (_MINIMUM, _MAXIMUM)]
        # Gradients are averaged over the ranks, so each rank's rows count for one part of the loss of all.
        columns[_GRADIENT_SQUARES] /= count**2
        added, largest = [(columns, sums, 1), (layer.array("loss"), slice(None), 1)], [(columns, [_MAXIMUM], 1)]
        for index in range(len(layer.banks())):
            isolated = (layer.bank_array(index, "mode") == _ISOLATED).nonzero().flatten()
            for name in ("parameters", "first_moment", "second_moment"):
                added.append((layer.bank_array(index, name), isolated, count))
            # A rank that had no rows for a step has made fewer.
            largest.append((layer.bank_array(index, "steps").view(torch.int32), isolated, 1))
            largest.append((layer.bank_array(index, "non_finite"), slice(None), 1))
        self._reduced("sum", added)
        self._reduced("minimum", [(columns, [_MINIMUM], 1)])
        self._reduced("maximum", largest)

    def _reduced(self, operation, pieces):
        """Reduces rows of arrays over the ranks, divides each by its number, and puts them back."""
        rows = [array[rows].double() for array, rows, _ in pieces]
        flat = torch.cat([row.flatten().cpu() for row in rows])
        self._ranks.reduce(flat, operation)
        parts = flat.split([row.numel() for row in rows])
        for (array, place, divisor), row, part in zip(pieces, rows, parts):
            array[place] = (part.view(row.shape) / divisor).to(array)

    def _wait_for_kernels(self):
        """So that no rank begins to train before the others can."""
        error = None
        try:
            self.layer.wait_for_kernels()
        except Error as raised:
            error = str(raised)
        errors = self._gather("the kernels", error)
        failed = {rank: error for rank, error in zip(self._ranks.members, errors) if error}
        # Where it failed on all ranks, the gate says so to whoever wants to train the seed.
        if failed and not all(errors):
            told = "; ".join(f"rank {rank}: {error}" for rank, error in failed.items())
            self._ranks.fail(f"kernels cannot be had on some ranks: {told}", failed)

    def _gather(self, step, given=None):
        """What each rank gives; and all of them learn what time it is."""
        told = self._ranks.gather(f"{step} of epoch {self.layer.epoch + 1}", (given, time.monotonic()))
        self.layer.set_time(told[0][1])
        return [given for given, _ in told]
