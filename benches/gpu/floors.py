"""The fewest bytes a pass can move, and the goals that are measured against them.

Counted is what must cross the device's memory bus once: rows read and written, f32 parameters of the active seeds, and
their gradients. Not counted are the state (9 bytes a seed), telemetry (160 bytes a seed: read and written), and what a
contestant moves beyond need; so a ratio to the floor is rather too large than too small. Inputs are larger than the
second-level cache, and rotated, so none of it is a cache's work.
"""

import dataclasses


def floor_bytes(problem, pass_):
    """Bytes of a pass over a problem. Backward reads x only where a seed is active; dy and dx are read and written."""
    workload = problem.workload
    rows = workload.rows * workload.hidden * workload.dtype.itemsize
    active = sum(len(group.seeds) for group in problem.groups)
    parameters = 4 * sum(len(group.seeds) * group.blueprint.parameter_count for group in problem.groups)
    forward = 2 * rows + parameters
    if pass_ == "forward":
        return forward
    x_again = rows * active * workload.chunk // workload.hidden
    return forward + 2 * rows + x_again + parameters + parameters


@dataclasses.dataclass
class Goal:
    """A bound on one number of a record: `contestant`'s time in microseconds, its ratio to the floor, or how many times
    as long a peer takes."""

    kind: str
    bound: float
    contestant: str = "kasmina"
    # Of peers, the best of those whose names begin so.
    peer: str = "torch.compile"

    def __str__(self):
        return {
            "floor": f"at most {self.bound:.3g}x floor",
            "peer": f"at least {self.bound:g}x {self.peer}",
            "device": f"at most {self.bound:g} us",
            "call": f"at most {self.bound:g} us",
            "launches": f"at most {self.bound:g} launches",
        }[self.kind]

    def measured(self, record, by="call"):
        """The number, or None if it was not measured.

        Peers are compared by what a caller sees, as when the goals were set, or else by the time on the device.
        """
        times = record["contestants"].get(self.contestant, {"failed": "left out"})
        if "failed" in times:
            return None
        if self.kind == "floor":
            return times["device"] / record["floor"]["microseconds"]
        if self.kind == "peer":
            peers = [
                other[by]
                for name, other in record["contestants"].items()
                if name.startswith(self.peer) and "failed" not in other
            ]
            return min(peers) / times[by] if peers else None
        return times.get(self.kind)

    def met(self, measured):
        if measured is None:
            return None
        return measured >= self.bound if self.kind == "peer" else measured <= self.bound


THREE = ("transformer", "kseeds", "kseeds_f32")
GOALS = {
    **{(name, "forward"): [Goal("floor", 1.20), Goal("peer", 4.5)] for name in THREE},
    **{(name, "forward and backward"): [Goal("floor", 1.30), Goal("peer", 9)] for name in THREE},
    ("elementwise", "forward"): [Goal("floor", 1.15)],
    ("mixed", "forward"): [Goal("floor", 1.25)],
    ("dormant", "forward, output aliasing the input"): [Goal("floor", 1.10, "kasmina, aliasing")],
    ("latency_1000", "forward"): [Goal("device", 12), Goal("device", 10, "kasmina, recorded")],
    ("latency_1000", "host cost of a call"): [
        Goal("call", 5, "kasmina, operator"),
        Goal("call", 12, "kasmina, operator with autograd"),
    ],
    ("in_place", "forward"): [Goal("floor", 0.75, "kasmina, in place")],
    ("isolated", "training step"): [
        Goal("launches", 2),
        Goal("peer", 100, peer="eager loop"),
        Goal("peer", 4, peer="vmap, torch.compile"),
    ],
    ("adamw", "step"): [Goal("floor", 1.15)],
    ("transitions", "a batch for every seed"): [Goal("call", 200)],
    ("transitions", "end of an epoch without commands, telemetry copied"): [Goal("call", 2000)],
}


def goals(record):
    """The goals of a record, each with what was measured and whether it was met (None: not measured)."""
    wanted = list(GOALS.get((record["work"], record["pass"]), []))
    if record["work"] == "normalised" and record["pass"] == "forward" and record.get("floor"):
        # At least 55 % of the matmul rate, or 1.3 times the floor, whichever allows more time.
        seconds = record["operations"] / (0.55 * record["matmul_rate"])
        wanted.append(Goal("floor", max(1.3, seconds * 1e6 / record["floor"]["microseconds"])))
    judged = []
    for goal in wanted:
        measured = goal.measured(record)
        found = {"contestant": goal.contestant, "goal": str(goal), "measured": measured, "met": goal.met(measured)}
        if goal.kind == "peer":
            found["on_device"] = goal.measured(record, by="device")
        judged.append(found)
    return judged
