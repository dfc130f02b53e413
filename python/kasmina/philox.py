"""The random numbers of dropout, by integer arithmetic of torch: the same bits as in the library's kernels.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011).
"""

import torch

_LOW = 0xFFFFFFFF


def philox(key, counter):
    """Ten rounds of Philox4x32. The key is an int of 64 bits, the counter four int64 tensors (or ints) of 32 bits each;
    so is the result."""
    a, b, c, d = counter
    keys = [key & _LOW, key >> 32 & _LOW]
    for _ in range(10):
        # Products of 64 bits wrap around in int64, which leaves their bits as they are.
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (
            (second >> 32 & _LOW) ^ b ^ keys[0],
            second & _LOW,
            (first >> 32 & _LOW) ^ d ^ keys[1],
            first & _LOW,
        )
        keys = [keys[0] + 0x9E3779B9 & _LOW, keys[1] + 0xBB67AE85 & _LOW]
    return a, b, c, d


def uniform(key, row, shape, seed, stream):
    """The numbers in [0, 1) that a stream draws for the elements of a value of this shape in one row of a launch.

    `row` is an int64 tensor of no dimensions, `seed` the seed's place in its layer, `key` that of the launch. Multiples
    of 2^-24, as float32.
    """
    elements = torch.arange(torch.Size(shape).numel(), device=row.device).view(shape)
    counter = (row & _LOW, elements, torch.full_like(elements, seed), stream | (row >> 32) << 16)
    return (philox(key, counter)[0] >> 8).to(torch.float32) / (1 << 24)
