

# ---- Telemetry: what a block sees of its rows before it writes them, added to the seed's columns once. ----


@triton.jit
def observe(rows, x, x_row, x_channel, telemetry):
    count = tl.zeros([SEEN, WIDTH], tl.float64)
    total = tl.zeros([SEEN, WIDTH], tl.float64)
    squares = tl.zeros([SEEN, WIDTH], tl.float64)
    neighbours = tl.zeros([SEEN, WIDTH], tl.float64)
    smallest_seen = tl.full([SEEN, WIDTH], float("inf"), number)
    largest_seen = tl.full([SEEN, WIDTH], float("-inf"), number)
    dead = tl.zeros([SEEN, WIDTH], tl.float64)
    bad = tl.zeros([SEEN, WIDTH], tl.float64)
    for first in tl.range(tl.program_id(1).to(tl.int64) * ROWS, rows, tl.num_programs(1) * ROWS, num_stages=1):
        for part in range(0, ROWS, SEEN):
            row = (first + part + tl.arange(0, SEEN)[:, None]).to(tl.int64)
            for start in range(0, CHUNK, WIDTH):
                channel = start + tl.arange(0, WIDTH)[None, :]
                inside = (row < rows) & (channel < CHUNK)
                has_next = (row < rows) & (channel + 1 < CHUNK)
                at = x + row * x_row + channel * x_channel
                v = tl.load(at, mask=inside, other=0.0).to(number)
                following = tl.load(at + x_channel, mask=has_next, other=0.0).to(number)
                finite = inside & is_finite(v)
                wide = tl.where(finite, v, 0.0).to(tl.float64)
                count += inside.to(tl.float64)
                total += wide
                squares += wide * wide
                neighbours += wide * tl.where(is_finite(following), following, 0.0).to(tl.float64)
                smallest_seen = tl.minimum(smallest_seen, tl.where(finite, v, float("inf")))
                largest_seen = tl.maximum(largest_seen, tl.where(finite, v, float("-inf")))
                dead += (finite & (tl.abs(v) <= DEAD_MOST)).to(tl.float64)
                bad += (inside & (finite == 0)).to(tl.float64)
    tl.atomic_add(telemetry + COUNT, tl.sum(count))
    tl.atomic_add(telemetry + SUM, tl.sum(total))
    tl.atomic_add(telemetry + SQUARES, tl.sum(squares))
    tl.atomic_add(telemetry + NEIGHBOURS, tl.sum(neighbours))
    tl.atomic_add(telemetry + DEAD, tl.sum(dead))
    tl.atomic_add(telemetry + NON_FINITE, tl.sum(bad))
    # Where no element is finite there is no smallest one, and nothing changes.
    tl.atomic_min(telemetry + MIN, tl.min(smallest_seen).to(tl.float64))
    tl.atomic_max(telemetry + MAX, tl.max(largest_seen).to(tl.float64))


@triton.jit
def observe_gradient(rows, gradient, gradient_row, gradient_channel, telemetry):
    squares = tl.zeros([SEEN, WIDTH], tl.float64)
    for first in tl.range(tl.program_id(1).to(tl.int64) * ROWS, rows, tl.num_programs(1) * ROWS, num_stages=1):
        for part in range(0, ROWS, SEEN):
            row = (first + part + tl.arange(0, SEEN)[:, None]).to(tl.int64)
            for start in range(0, CHUNK, WIDTH):
                channel = start + tl.arange(0, WIDTH)[None, :]
                inside = (row < rows) & (channel < CHUNK)
                v = tl.load(gradient + row * gradient_row + channel * gradient_channel, mask=inside, other=0.0).to(number)
                wide = tl.where(is_finite(v), v, 0.0).to(tl.float64)
                squares += wide * wide
    tl.atomic_add(telemetry + GRADIENT_SQUARES, tl.sum(squares))
