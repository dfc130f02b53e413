"""A number for each seed of a layer that is the same on two ranks if, and but for 1 in 2^64 only if, the seed is.

It covers the state arrays, and parameters, moments and step counts of seeds that still need theirs. All is computed on the
layer's device.
"""

import torch

from ..layer import Lifecycle

_STATE = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags germinations "
    "strategy_memory"
).split()
_BANK = "parameters first_moment second_moment steps".split()
# Whether a kernel is loaded already may differ: it changes nothing that a seed computes.
_READY = 1
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprints(layer, learning=True):
    """The names of what is covered, and an int64 tensor `[names, seeds]` on the layer's device. Without `learning`, that is not
    what seeds in TRAINING have learned."""
    rows = {name: _bits(layer.array(name)) for name in _STATE}
    rows["flags"] = rows["flags"] & ~_READY
    states, blueprints, slots = rows["lifecycle"], rows["blueprint"], rows["slot"]
    needed = (states >= Lifecycle.GERMINATED) & (states <= Lifecycle.FOSSILIZED)
    if not learning:
        needed &= states != Lifecycle.TRAINING
    for index in range(len(layer.banks())):
        seeds = needed & (blueprints == index)
        for name in _BANK:
            digests = _mixed(_bits(layer.bank_array(index, name)))
            # Any slot for the seeds that have none of this bank; they do not count.
            rows[f"{name} of bank {index}"] = torch.where(seeds, digests[slots.where(seeds, 0)], 0)
    return list(rows), torch.stack(list(rows.values()))


def combined(rows):
    """One number for each seed from all of its rows."""
    return _mixed(rows.t())


def _bits(tensor):
    """The elements' bits as int64."""
    return tensor.detach().view(_INTEGERS[tensor.element_size()]).to(torch.int64)


def _mixed(numbers):
    """One number for each row: the sum of its elements, each times its own odd number, modulo 2^64."""
    if numbers.dim() == 1:
        return numbers
    generator = torch.Generator().manual_seed(numbers.shape[1])
    factors = torch.randint(-(2**63), 2**63 - 1, (numbers.shape[1],), generator=generator) | 1
    return (numbers * factors.to(numbers.device)).sum(1)
