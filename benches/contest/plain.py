"""The layer as somebody writes it who has torch and no Kasmina: what Kasmina is compared with."""

import torch
import torch.nn.functional as F


def telemetry(x, seeds):
    """What torch users watch: sum, sum of squares, largest magnitude and how many are not finite, of each seed."""
    chunks = x.detach().view(x.shape[0], seeds, -1).float()
    return (
        chunks.sum((0, 2)),
        chunks.square().sum((0, 2)),
        chunks.abs().amax((0, 2)),
        (~chunks.isfinite()).sum((0, 2)),
    )


# Blueprints of the library for many seeds at once: x is `[rows, seeds, chunk]`, each seed has its own parameters.


def two_layers(x, activation, w1, b1, w2, b2):
    h = torch.einsum("nac,akc->nak", x, w1) + b1
    return torch.einsum("nak,ack->nac", activation(h), w2) + b2


def gelu(h):
    return F.gelu(h, approximate="tanh")


def bottleneck(x, **layers):
    return x + two_layers(x, gelu, **layers)


def normalized_mlp(x, scale, shift, **layers):
    return x + two_layers(F.layer_norm(x, x.shape[-1:]) * scale + shift, gelu, **layers)


def squeeze_excite(x, **layers):
    return x * torch.sigmoid(two_layers(x, F.relu, **layers))


def low_rank(x, down, up):
    return x + torch.einsum("nak,ack->nac", torch.einsum("nac,akc->nak", x, down), up)


def conv(x, w, s):
    """Three taps, of which the first is of the element itself and the others of those before it."""
    padded = F.pad(x, (2, 0))
    taps = (w[:, tap, None] * padded[..., 2 - tap : 2 - tap + x.shape[-1]] for tap in range(3))
    return sum(taps) * s[:, None]


def residual(x, w, s):
    return x + w * s[:, None]


BLUEPRINTS = {
    function.__name__: function
    for function in (bottleneck, normalized_mlp, squeeze_excite, low_rank, residual, conv)
}


def blend(x, name, alpha, parameters):
    return x + alpha * (BLUEPRINTS[name](x, **parameters) - x)


# The ways to write the layer. `groups` are triples: a blueprint's name, its seeds and the parameters of these.


def gathering(x, seeds, alpha, groups):
    """Takes the active chunks out, computes them together and puts them back."""
    chunks = x.view(x.shape[0], seeds, -1)
    y = chunks if groups else chunks.clone()
    for name, active, parameters in groups:
        blended = blend(chunks.index_select(1, active), name, alpha, parameters)
        y = y.index_copy(1, active, blended.to(y.dtype))
    return y.view_as(x), telemetry(x, seeds)


def masking(x, seeds, alpha, groups):
    """Computes every chunk, the dormant ones with weights of zero, and takes what is wanted."""
    chunks = x.view(x.shape[0], seeds, -1)
    y = chunks
    for name, active, parameters in groups:
        y = torch.where(active[:, None], blend(chunks, name, alpha, parameters).to(y.dtype), y)
    return y.view_as(x), telemetry(x, seeds)


def observing(x, seeds, alpha, groups):
    """A layer without active seeds, whose output is its input."""
    return x, telemetry(x, seeds)


class Torch:
    """A contestant in plain torch, with the parameters of a problem in the type of its rows (or another)."""

    passes = ("forward", "forward and backward")

    def __init__(self, function, problem, dtype=None, **compiling):
        self.function = torch.compile(function, dynamic=False, **compiling) if compiling else function
        self.seeds, self.alpha = problem.workload.seeds, problem.alpha
        self.padded = function is masking
        self.groups = []
        for group in problem.groups:
            if not group.seeds:
                continue
            active = torch.tensor(group.seeds, device=problem.device)
            parameters = {name: value.to(dtype or problem.workload.dtype) for name, value in group.parameters.items()}
            if self.padded:
                parameters = {name: self._pad(value, active) for name, value in parameters.items()}
                active = torch.zeros(self.seeds, dtype=torch.bool, device=problem.device).index_fill(0, active, True)
            parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
            self.groups.append((group.name, active, parameters))

    def _pad(self, value, active):
        every = torch.zeros(self.seeds, *value.shape[1:], dtype=value.dtype, device=value.device)
        return every.index_copy(0, active, value)

    def forward(self, x):
        return self.function(x, self.seeds, self.alpha, self.groups)[0]

    def leaves(self):
        return [value for _, _, parameters in self.groups for value in parameters.values()]

    def named(self, gradients):
        """Gradients of the leaves by the names of the parameters, for active seeds."""
        found, rest = {}, iter(gradients)
        for name, active, parameters in self.groups:
            for parameter in parameters:
                gradient = next(rest)
                found[f"{name}.{parameter}"] = gradient[active] if self.padded else gradient
        return found
