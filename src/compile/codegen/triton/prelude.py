

# ---- Arithmetic. Functions have the accuracy of NVIDIA's libdevice: no fast approximations. ----


@triton.jit
def exponential(v):
    return libdevice.exp(v)


@triton.jit
def logarithm(v):
    return libdevice.log(v)


@triton.jit
def root(v):  # to the nearest, which f64 always is
    if DOUBLE:
        return libdevice.sqrt(v)
    else:
        return tl.sqrt_rn(v)


@triton.jit
def inverse_root(v):
    return libdevice.rsqrt(v)


@triton.jit
def hyperbolic_tangent(v):
    return libdevice.tanh(v)


@triton.jit
def error_function(v):
    return libdevice.erf(v)


@triton.jit
def sine(v):
    return libdevice.sin(v)


@triton.jit
def cosine(v):
    return libdevice.cos(v)


@triton.jit
def rounded_down(v):
    return libdevice.floor(v)


@triton.jit
def power(a, b):
    return libdevice.pow(tl.cast(a, number), tl.cast(b, number))


@triton.jit
def quotient(a, b):  # to the nearest, which f64 always is
    if DOUBLE:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def sigmoid(v):
    return quotient(1.0, 1.0 + libdevice.exp(-v))


@triton.jit
def is_finite(v):  # not by v - v: of a product the compiler makes a fused multiplication, which leaves its rounding error
    return tl.abs(v) < float("inf")


@triton.jit
def maximum(a, b):  # NaN if either is, as in PyTorch
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def largest(v):  # along the second axis; NaN if any is
    any_nan = tl.max((v != v).to(tl.int32), axis=1, keep_dims=True)
    return tl.where(any_nan != 0, float("nan"), tl.max(v, axis=1, keep_dims=True))


@triton.jit
def smallest(v):
    any_nan = tl.max((v != v).to(tl.int32), axis=1, keep_dims=True)
    return tl.where(any_nan != 0, float("nan"), tl.min(v, axis=1, keep_dims=True))


@triton.jit
def rounded_to_f16(v):
    return v.to(tl.float32).to(tl.float16).to(number)


@triton.jit
def rounded_to_bf16(v):
    return v.to(tl.float32).to(tl.bfloat16).to(number)


# ---- Integers: 64 bits whatever their type; those of i32 are wrapped to 32 bits after each operation. ----


@triton.jit
def wrapped(v):
    return v.to(tl.int32).to(tl.int64)


@triton.jit
def to_i64(v):  # towards zero, to the nearest there is, and 0 for NaN
    inside = (v > -9223372036854775808.0) & (v < 9223372036854775808.0)
    whole = tl.where(inside, v, 0.0).to(tl.int64)
    whole = tl.where(v >= 9223372036854775808.0, 0x7FFFFFFFFFFFFFFF, whole)
    return tl.where(v <= -9223372036854775808.0, -0x7FFFFFFFFFFFFFFF - 1, whole)


@triton.jit
def to_i32(v):
    return tl.minimum(tl.maximum(to_i64(v), -2147483648), 2147483647)


# ---- Random numbers by counting: ten rounds of Philox4x32 over row, element, seed and stream. Programs take 0 instead
# ---- where dropout is not active. ----


@triton.jit
def random_number(key, row, element, seed, stream):
    low = key.to(tl.uint32)
    high = (key >> 32).to(tl.uint32)
    zero = (row * 0 + element * 0).to(tl.uint32)  # a tile of all rows and elements
    a = zero + row.to(tl.uint32)
    b = zero + tl.cast(element, tl.uint32)
    c = zero + seed.to(tl.uint32)
    d = zero + (stream | ((row >> 32) << 16)).to(tl.uint32)
    for _ in tl.static_range(10):
        first = a * 0xD2511F53
        first_high = tl.umulhi(a, tl.full(a.shape, 0xD2511F53, tl.uint32))
        second = c * 0xCD9E8D57
        second_high = tl.umulhi(c, tl.full(c.shape, 0xCD9E8D57, tl.uint32))
        a = second_high ^ b ^ low
        b = second
        c = first_high ^ d ^ high
        d = first
        low += 0x9E3779B9
        high += 0xBB67AE85
    return (a >> 8).to(number) * 5.9604644775390625e-08  # 2^-24
