"""The network that is trained, what it costs, and how one is trained for an epoch."""

import torch
import torch.nn.functional as F

import kasmina
from kasmina import Lifecycle

PIXELS, CLASSES = 64, 10
# A seed's function: x + linear(gelu(linear(x))), this wide inside.
INNER = 16


def blueprint(chunk):
    """The blueprint that seeds are given. Its weights begin at random, so it has something to learn in isolation."""
    return kasmina.Blueprint.from_json(
        {
            "ir_version": 1,
            "name": "digits",
            "chunk": chunk,
            "parameters": [
                {"name": "w1", "shape": [INNER, chunk], "initializer": "fan_in"},
                {"name": "b1", "shape": [INNER]},
                {"name": "w2", "shape": [chunk, INNER], "initializer": "fan_in"},
                {"name": "b2", "shape": [chunk]},
            ],
            "nodes": [
                {"name": "inner", "op": "linear", "inputs": ["x", "w1", "b1"]},
                {"name": "h", "op": "gelu", "inputs": ["inner"]},
                {"name": "outer", "op": "linear", "inputs": ["h", "w2", "b2"]},
                {"name": "y", "op": "add", "inputs": ["x", "outer"]},
            ],
            "output": "y",
        }
    )


class Network(torch.nn.Module):
    """A perceptron with one hidden layer; `layer` stands behind that one, and is None in networks that do not grow."""

    def __init__(self, hidden, layer=None):
        super().__init__()
        self.first = torch.nn.Linear(PIXELS, hidden)
        self.layer = layer
        self.last = torch.nn.Linear(hidden, CLASSES)

    def forward(self, x):
        x = self.first(x)
        if self.layer is not None:
            x = self.layer(x)
        return self.last(torch.relu(x))


def parameter_count(network):
    """Parameters that the network's output depends on: of the seeds, those that are part of it."""
    _, own = kasmina.split_parameters(network)
    count = sum(parameter.numel() for parameter in own)
    if network.layer is not None:
        applied = network.layer.report()["totals"]["applied"]
        count += applied * network.layer.bank_0.shape[1]
    return count


def training_flops(network, rows):
    """Floating-point operations of matrix products that one epoch over `rows` rows takes, forward and backward."""
    hidden = network.first.out_features
    # Forward once, gradients of weights once, and of the hidden layer (the pixels need none).
    flops = 2 * rows * (2 * PIXELS * hidden + 3 * hidden * CLASSES)
    if network.layer is not None:
        one = 2 * rows * 2 * network.layer.chunk * INNER
        # A pass over a seed's two matrices costs `one`. Backward passes compute the inner values once more.
        passes = {
            Lifecycle.TRAINING: 2.5,  # forward, gradients of both weights, gradient of the inner values
            Lifecycle.GRAFTING: 4,  # forward, forward again, gradients of both weights, gradient of x
            Lifecycle.STABILIZATION: 3,
            Lifecycle.EVALUATING: 3,
            Lifecycle.FINE_TUNING: 4,
            Lifecycle.FOSSILIZED: 3,
        }
        flops += one * sum(passes.get(state, 0) for state in network.layer.states())
    return flops


class Trainer:
    """Trains a network with AdamW; the parameters of seeds by the optimiser that knows which of them to move."""

    def __init__(self, network, data, learning_rate, batch, random_seed):
        self.network, self.data, self.batch = network, data, batch
        seeds, own = kasmina.split_parameters(network)
        self.optimizers = [torch.optim.AdamW(own, lr=learning_rate)]
        if seeds:
            self.optimizers.append(kasmina.AdamW(seeds, lr=learning_rate))
        self.random = torch.Generator().manual_seed(random_seed)
        self.flops = 0

    def epoch(self):
        """One pass over the training images, in random order."""
        x, y = self.data["training"]
        self.network.train()
        order = torch.randperm(len(x), generator=self.random).to(x.device)
        for rows in order.split(self.batch):
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            F.cross_entropy(self.network(x[rows]), y[rows]).backward()
            for optimizer in self.optimizers:
                optimizer.step()
        self.flops += training_flops(self.network, len(x))

    @torch.no_grad()
    def measure(self, part):
        """Loss and accuracy on a part of the data."""
        x, y = self.data[part]
        self.network.eval()
        scores = self.network(x)
        return F.cross_entropy(scores, y).item(), (scores.argmax(1) == y).double().mean().item()
