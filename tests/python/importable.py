"""Modules that a blueprint can be made of: each takes rows `[.., 8]` and treats every row by itself."""

import math

import torch
import torch.nn.functional as F
from torch import nn

C = 8


class Function(nn.Module):
    """A function of x and of parameters with given shapes."""

    def __init__(self, function, **shapes):
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def forward(self, x):
        return self.function(x, **dict(self.named_parameters()))


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.inner(x)


class SwiGlu(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(C)
        self.gate, self.up, self.down = nn.Linear(C, 12, bias=False), nn.Linear(C, 12, bias=False), nn.Linear(12, C)

    def forward(self, x):
        h = self.norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Attention(nn.Module):
    """Attention between the pieces of a chunk, written in one of several ways."""

    def __init__(self, way, heads=2):
        super().__init__()
        self.way, self.heads = way, heads
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x):
        pieces = x.reshape(*x.shape[:-1], 2, 4)
        q, k, v = self.qkv(pieces).chunk(3, -1)
        if self.way == "einsum":
            weights = torch.einsum("...qd,...kd->...qk", q, k).div(2).softmax(-1)
            found = torch.einsum("...qk,...kd->...qd", weights, v)
        elif self.way == "heads":
            q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for t in (q, k, v))
            weights = (q @ k.transpose(-1, -2) / math.sqrt(2)).softmax(-1)
            found = (weights @ v).transpose(-2, -3).flatten(-2)
        elif self.way == "masked":
            mask = torch.ones(2, 2, dtype=torch.bool, device=x.device).tril()
            found = (q @ k.mT).masked_fill(~mask, -math.inf).softmax(-1) @ v
        else:
            found = F.scaled_dot_product_attention(q, k, v, is_causal=self.way == "causal")
        return x + self.out(found).flatten(-2)


class MergedRows(nn.Module):
    """Rows and pieces merged into one dimension and taken apart again, the pieces outside."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        inside = self.layer(x.reshape(-1, 4)).reshape(x.shape)
        outside = x.view(-1, 2, 4).transpose(0, 1).reshape(-1, 4)
        return inside * self.layer(outside).view(2, -1, 4).transpose(0, 1).reshape(x.shape)


class Convolution(nn.Module):
    def __init__(self, before=0, behind=0, channels=1, **options):
        super().__init__()
        self.before, self.behind, self.channels = before, behind, channels
        self.conv = nn.Conv1d(channels, channels, **options)

    def forward(self, x):
        rows = F.pad(x.reshape(-1, self.channels, C // self.channels), (self.before, self.behind))
        return self.conv(rows).reshape(x.shape)


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(1, 6, 3, stride=2, padding=1, dilation=1)
        self.mix = nn.Conv1d(6, 2, 1, groups=2)

    def forward(self, x):
        return torch.tanh(self.mix(self.down(x.reshape(-1, 1, C)).relu())).reshape(x.shape)


class Rotary(nn.Module):
    def forward(self, x):
        pieces = x.unflatten(-1, (2, 4))
        frequencies = 10.0 ** (-torch.arange(0, 4, 2, device=x.device, dtype=x.dtype) / 4)
        angles = torch.arange(2, device=x.device)[:, None] * frequencies
        first, second = pieces[..., ::2], pieces[..., 1::2]
        turned = first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()
        return torch.stack(turned, -1).flatten(-3)


class InPlace(nn.Module):
    def forward(self, x):
        y = x * 2
        y += 1
        y[..., 0] = 3.0
        y[..., 2:4].mul_(0.5)
        return y.relu_() - x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(C, C), nn.Linear(C, C)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.25))
        self.register_buffer("ones", torch.ones(C), persistent=False)
        self.fixed = nn.Parameter(torch.full((C,), 3.0), requires_grad=False)

    def forward(self, x):
        return x * self.scale + self.ones - self.fixed * torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


def halves(x, w):
    a, b = x.split([3, 5], -1)
    return torch.cat(
        [
            b.exp() * 0.1,
            a * w,
        ],
        -1,
    )


def chosen(x, w):
    y = torch.where((x > w) & ~(x < 0) | (x == 1), x, w).clamp(-0.8, 0.8)
    return torch.where(y >= 0.5, x.clamp(min=0.2), y.masked_fill(x <= -1, 0.5)) + (x != 0) * 0.5


def reduced(x):
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / x.std(-1, keepdim=True)
        + x.var(-1, correction=0, keepdim=True)
        + x.amax(-1, keepdim=True)
        - x.amin(-1)[..., None]
    )


def logarithms(x):
    return F.log_softmax(x, -1) + F.softmin(x, -1) + torch.logsumexp(x, -1, keepdim=True) + F.normalize(x, dim=-1)


def excited(x, w, v):
    return x * (F.linear(F.linear(x, w).relu(), v) + 3).sigmoid()


def multiplied(x, w, b):
    return torch.addmm(b, x.view(-1, C), w, beta=0.5).view(x.shape)


def waves(x, w):
    return x.sin() * w.cos() + (x + 0.3).floor() + x.ceil() + x.sign() + x.tan() * 0.1


def other_logarithms(x):
    return x.abs().log1p() + x.expm1() + (x.abs() + 1).log2() + (x * x + 1).log10() + x.square() + x.reciprocal()


def powers(x):
    positive = x.abs() + 0.5
    return positive**0.5 + positive**-0.5 + x**2 + x**3 + positive**1.7 + 2.0**x + 1 / positive - positive.pow(-1)


def moved(x, w):
    y = x.roll(3, -1) + x.flip(-1) * 0.5 + x[..., [1, 0, 3, 2, 5, 4, 7, 6]] + w.repeat(2) - w.repeat_interleave(2)
    return y + x[..., 1:2].expand_as(x) + x[..., ::2].repeat_interleave(2, -1)


def ranked(x):
    best = torch.topk(x, 3)
    return (
        x * best.values.mean(-1, keepdim=True)
        + x.sort(-1, descending=True).values
        + x.cumsum(-1)
        + x.max(-1, True).values
    )


def counted(x):
    place = torch.arange(C, device=x.device)
    return x * place + x * (place >= x.argmax(-1, keepdim=True)) + torch.linspace(0, 0, C, device=x.device)


ACTIVATIONS = [
    nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU(0.7), nn.CELU(0.5), nn.SELU(),
    nn.LeakyReLU(0.2), nn.PReLU(), nn.PReLU(12), nn.Softplus(), nn.Softplus(2.0, 1.0), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Hardtanh(-0.5, 0.5), nn.ReLU6(), nn.Mish(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.Softshrink(0.2),
    nn.Hardshrink(0.2), nn.Threshold(0.1, -0.3), nn.Softmax(-1), nn.LogSoftmax(-1), nn.Identity(),
]  # fmt: skip

MODULES = {
    **{f"a layer with {a}": lambda a=a: nn.Sequential(nn.Linear(C, 12), a, nn.Linear(12, C)) for a in ACTIVATIONS},
    "a linear layer": lambda: nn.Linear(C, C, bias=False),
    "a normalised block": lambda: Residual(nn.LayerNorm(C), nn.Linear(C, 16), nn.GELU(), nn.Linear(16, C)),
    "a norm without weight": lambda: Residual(nn.LayerNorm(C, elementwise_affine=False), nn.LayerNorm(C, bias=False)),
    "a norm over two dimensions": lambda: nn.Sequential(nn.Unflatten(-1, (2, 4)), nn.LayerNorm([2, 4]), nn.Flatten(-2)),
    "groups": lambda: nn.Sequential(nn.GroupNorm(2, C), nn.Linear(C, C), nn.GroupNorm(4, C, affine=False)),
    "a fresh batch norm in evaluation": lambda: nn.BatchNorm1d(C).eval(),
    "swiglu": SwiGlu,
    "glu": lambda: Residual(nn.Linear(C, 2 * C), nn.GLU(-1)),
    "low rank": lambda: Residual(nn.Linear(C, 2, bias=False), nn.Linear(2, C, bias=False)),
    "squeeze and excite": lambda: Function(excited, w=(2, C), v=(C, 2)),
    **{f"attention by {w}": lambda w=w: Attention(w) for w in ("einsum", "heads", "masked", "causal", "torch")},
    "rows merged with pieces": MergedRows,
    "a convolution": lambda: Convolution(kernel_size=3, padding=1),
    "a causal convolution": lambda: Convolution(before=4, kernel_size=3, dilation=2),
    "a same convolution of pieces": lambda: Convolution(channels=2, kernel_size=3, padding="same"),
    "a convolution of each piece": lambda: Convolution(channels=2, kernel_size=3, padding=1, groups=2, bias=False),
    "a strided convolution": Strided,
    "rotary embedding": Rotary,
    "in place": InPlace,
    "tied weights": Tied,
    "numbers in buffers": Buffers,
    "dropout in evaluation": lambda: nn.Sequential(nn.Linear(C, C), nn.Dropout(0.5)).eval(),
    "a bilinear form": lambda: Function(lambda x, w: torch.einsum("...i,oij,...j->...o", x, w, x), w=(C, C, C)),
    "matrices": lambda: Function(multiplied, w=(C, C), b=(1, C)),
    "an outer product": lambda: Function(lambda x, w: (x[..., :, None] * x[..., None, :] * w).sum(-1), w=(C,)),
    "split and joined": lambda: Function(halves, w=(3,)),
    "comparisons": lambda: Function(chosen, w=(1, C)),
    "statistics": lambda: Function(reduced),
    "logarithms": lambda: Function(logarithms),
    "powers": lambda: Function(powers),
    "a power of x": lambda: Function(lambda x, w: (x.abs() + 1) ** w, w=(C,)),
    "waves": lambda: Function(waves, w=(C,)),
    "other logarithms": lambda: Function(other_logarithms),
    "moved about": lambda: Function(moved, w=(4,)),
    "ranked": lambda: Function(ranked),
    "counted": lambda: Function(counted),
    "an error function": lambda: Function(lambda x: torch.erf(x) - torch.rsub(x, 1) + torch.lerp(x, x * 2, 0.3)),
}  # fmt: skip


def module(name, dtype=torch.float64):
    """A module by name, with reproducible parameters away from zero and one."""
    found = MODULES[name]().to(dtype)
    generator = torch.Generator().manual_seed(1)
    for parameter in found.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return found
