    seed = tl.program_id(0)
    if seed < seeds:
        block = (tl.program_id(1) * seeds + seed).to(tl.int64)
        scratch += block * SCRATCH
        integers += block * INTEGERS
        dropout = tl.zeros([1, 1], number)
        key = tl.full([], 0, tl.uint64)
        if random is not None:
            dropout = tl.full([1, 1], 1.0, number)
            key = tl.load(random).to(tl.uint64) + random_offset
        weight = tl.load(alpha + seed + tl.zeros([1, 1], tl.int32))
        weight = tl.where(weight > 0, tl.where(weight < 1, weight, 1.0), 0.0).to(number)
        # Whatever the state arrays hold, nothing outside them is read.
        state = tl.load(lifecycle + seed).to(tl.int32)
        own_blueprint = tl.load(blueprint + seed)
        known = (state >= 0) & (state < 32) & (((RUNS >> (state & 31)) & 1) != 0)
        known = known & (own_blueprint >= 0) & (own_blueprint < blueprints)
        taken = tl.load(branch + own_blueprint, mask=known, other=-1)
        known = known & (taken >= 0) & (taken < PROGRAMS)
        own_slot = tl.load(slot + seed)
        capacity = 0
