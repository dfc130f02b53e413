"""The two passes that are timed, and whether a contestant computes in them what f64 computes."""

import torch

from .plain import Torch, gathering

# How far from f64 a contestant may be, relative to the largest number. bf16 has 8 bits, and torch rounds after every
# operation, to sums of thousands of rows in the gradients.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
# Rows that f64 takes at a time.
BLOCK = 1024


class Wrong(Exception):
    """A contestant computes something else; the message says what, and by how much."""


def forward(contestant, x, _=None):
    with torch.no_grad():
        return contestant.forward(x)


def both(contestant, x, gradient):
    """A forward and a backward pass: y, and the gradients of x and of every parameter."""
    x = x.detach().requires_grad_()
    y = contestant.forward(x)
    return y, *torch.autograd.grad(y, (x, *contestant.leaves()), gradient)


PASSES = {"forward": forward, "forward and backward": both}


def reference(problem, x, gradient):
    """What f64 computes: y, dx and the gradients of the parameters by name."""
    exact = Torch(gathering, problem, torch.float64)
    blocks = zip(x.split(BLOCK), gradient.split(BLOCK))
    outputs = [both(exact, rows.double(), of_output.double()) for rows, of_output in blocks]
    y, dx = (torch.cat([output[place].detach() for output in outputs]) for place in (0, 1))
    gradients = [sum(parts) for parts in zip(*(output[2:] for output in outputs))]
    return {"y": y, "dx": dx, **exact.named(gradients)}


def largest_error(contestant, wanted, x, gradient):
    """The largest error of a contestant, relative to the largest number of its kind; compiles what has to be."""
    # A clone, because a contestant may work in place.
    found = {"y": forward(contestant, x.clone())}
    worst = _compare(found, wanted, x.dtype)
    if "forward and backward" in contestant.passes:
        y, dx, *gradients = both(contestant, x, gradient)
        found = {"y": y.detach(), "dx": dx, **contestant.named(gradients)}
        if found.keys() != wanted.keys():
            raise Wrong(f"it has gradients of {sorted(found)} instead of {sorted(wanted)}")
        worst = max(worst, _compare(found, wanted, x.dtype))
    return worst


def _compare(found, wanted, dtype):
    worst = 0.0
    for key, value in found.items():
        if not value.numel():
            continue
        error = ((value.double() - wanted[key]).abs().max() / wanted[key].abs().max()).item()
        if not error <= TOLERANCE[dtype]:
            raise Wrong(f"{key} is off by {error:.2g} of the largest number")
        worst = max(worst, error)
    return worst
