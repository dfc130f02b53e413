

# ---- Identity: bits are copied. ----


@triton.jit
def copy_chunk(rows, source, source_row, source_channel, output, output_row, output_channel):
    for first in tl.range(tl.program_id(1).to(tl.int64) * ROWS, rows, tl.num_programs(1) * ROWS, num_stages=1):
        row = (first + tl.arange(0, ROWS)[:, None]).to(tl.int64)
        valid = row < rows
        for start in range(0, CHUNK, WIDTH):
            channel = start + tl.arange(0, WIDTH)[None, :]
            inside = valid & (channel < CHUNK)
            bits = tl.load(source + row * source_row + channel * source_channel, mask=inside)
            tl.store(output + row * output_row + channel * output_channel, bits, mask=inside)


@triton.jit
def copy_tail(rows, hidden, seeds, source, source_row, source_channel, output, output_row, output_channel):
    start = seeds * CHUNK + (tl.program_id(0) - seeds) * WIDTH
    channel = start + tl.arange(0, WIDTH)[None, :].to(tl.int64)
    for first in tl.range(tl.program_id(1).to(tl.int64) * ROWS, rows, tl.num_programs(1) * ROWS, num_stages=1):
        row = (first + tl.arange(0, ROWS)[:, None]).to(tl.int64)
        inside = (row < rows) & (channel < hidden)
        bits = tl.load(source + row * source_row + channel * source_channel, mask=inside)
        tl.store(output + row * output_row + channel * output_channel, bits, mask=inside)
