"""The ranks that do something together: they wait for each other, but not for ever, and hear of each other's errors.

This module knows no layers. It talks through a gloo group of its own, with a timeout of its own, whatever the backend of
the others: gloo tells which rank is missing, and tells it in time.
"""

import datetime

import torch.distributed as dist

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "minimum": dist.ReduceOp.MIN, "maximum": dist.ReduceOp.MAX}


class RankLost(RuntimeError):
    """A rank died, or did not come in time to where the others waited for it."""


class RanksDisagree(RuntimeError):
    """The ranks were told to do different things, or the same came out differently. `ranks` are those that differ from
    the others, `seeds` the seeds in question, if any."""

    def __init__(self, message, ranks=(), seeds=()):
        super().__init__(message)
        self.ranks, self.seeds = list(ranks), list(seeds)


class Ranks:
    """The ranks of a process group, all of them by default. Every rank calls the same methods in the same order."""

    def __init__(self, group=None, timeout=datetime.timedelta(minutes=5)):
        if not dist.is_initialized():
            raise RuntimeError("kasmina: call torch.distributed.init_process_group first")
        self.members = dist.get_process_group_ranks(group if group is not None else dist.group.WORLD)
        self.timeout = timeout
        part = len(self.members) < dist.get_world_size()
        self._group = dist.new_group(self.members, timeout=timeout, backend="gloo", use_local_synchronization=part)
        self._failure = None

    def is_first(self):
        """Whether this is the first of the ranks."""
        return dist.get_rank() == self.members[0]

    def gather(self, step, given=None):
        """What each rank gives, in the order of the ranks. `step` says where in the program a rank is: it must be the same
        everywhere."""
        found = [None] * len(self.members)
        self._talk(step, lambda: dist.all_gather_object(found, (step, given), group=self._group))
        steps = [step for step, _ in found]
        if len(set(steps)) > 1:
            where = "; ".join(f"rank {rank} is at {step}" for rank, step in zip(self.members, steps))
            self.fail(f"the ranks do not do the same: {where}", others(steps, self.members))
        return [given for _, given in found]

    def alike(self, step, action):
        """Does something on every rank and returns its result. If it fails on all of them, each raises its own error; if
        only on some, all raise `RanksDisagree`."""
        result = error = None
        try:
            result = action()
        except Exception as raised:  # Whatever it is, the others must not wait for this rank in vain.
            error = raised
        errors = self.gather(f"the outcome of {step}", None if error is None else f"{type(error).__name__}: {error}")
        if all(errors):
            raise error
        if any(errors):
            failed = [(rank, error) for rank, error in zip(self.members, errors) if error]
            told = "; ".join(f"rank {rank}: {error}" for rank, error in failed)
            self.fail(f"{step} failed on some ranks and not on others: {told}", [rank for rank, _ in failed], cause=error)
        return result

    def reduce(self, tensor, operation):
        """Reduces a CPU tensor over all ranks in place, by `sum`, `minimum` or `maximum`. All get the same bits."""

        def reduce():
            # Computed in one place: no algorithm of a backend can give one rank other bits than another.
            dist.reduce(tensor, dst=self.members[0], op=_OPERATIONS[operation], group=self._group)
            dist.broadcast(tensor, src=self.members[0], group=self._group)

        if tensor.numel() > 0:
            self._talk(f"a {operation}", reduce)

    def broadcast(self, value):
        """What the first rank gives, on all of them."""
        held = [value]
        self._talk("a broadcast", lambda: dist.broadcast_object_list(held, src=self.members[0], group=self._group))
        return held[0]

    def fail(self, message, ranks=(), seeds=(), cause=None):
        """Raises `RanksDisagree`, now and at every later call: nothing can be trusted to be alike any more."""
        self._failure = f"kasmina: {message}"
        raise RanksDisagree(self._failure, ranks, seeds) from cause

    def _talk(self, step, exchange):
        if self._failure is not None:
            raise RanksDisagree(f"{self._failure} (this is why the ranks cannot go on together; load a checkpoint)")
        try:
            dist.monitored_barrier(self._group, timeout=self.timeout, wait_all_ranks=True)
            exchange()
        except RuntimeError as cause:
            self._failure = (
                f"kasmina: a rank died, or did not come to {step} within {self.timeout.total_seconds():g} seconds: {cause}"
            )
            raise RankLost(self._failure) from cause


def others(values, ranks):
    """The ranks whose value is not the one that most ranks have; of equally many, those with the first rank are right."""
    values = list(values)
    most = max(values, key=values.count)
    return [rank for rank, value in zip(ranks, values) if value != most]
