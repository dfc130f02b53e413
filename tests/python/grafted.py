"""Many blueprints run at once: a layer with a seed for each, and torch modules that should compute the same."""

import torch
from growing import layer_of

from kasmina import Action, Command, Lifecycle

# The way to FINE_TUNING, where a seed's output is all its blueprint's and its parameters have gradients.
_WAY = [
    (Action.GERMINATE, Lifecycle.GERMINATED),
    (Action.START_TRAINING, Lifecycle.TRAINING),
    (Action.START_GRAFTING, Lifecycle.GRAFTING),
    (Action.STABILISE, Lifecycle.STABILIZATION),
    (Action.EVALUATE, Lifecycle.EVALUATING),
    (Action.FINE_TUNE, Lifecycle.FINE_TUNING),
]


def grafted(blueprints, *, device="cpu", dtype=torch.float32, row_type=None):
    """A layer whose seed `i` is in FINE_TUNING with alpha 1 and has blueprint `i`; all have the same chunk width."""
    count, chunk = len(blueprints), blueprints[0].chunk
    settings = {"ramp_steps": 1, "fallback_blocks_promotion": False}
    pairs = [(blueprint, 1) for blueprint in blueprints]
    layer = layer_of(pairs, hidden=count * chunk, seeds=count, device=device, dtype=dtype, settings=settings)
    x = torch.rand(4, layer.hidden, device=device, dtype=dtype) - 0.5
    for action, state in _WAY:
        # Some gates look at the last two epochs, others at the one that ends.
        for commands in ([], [], [_command(seed, action) for seed in range(count)]):
            layer.submit(*commands)
            with torch.no_grad():
                layer(x)
            summary = layer.end_epoch()
        assert summary["refused"] == [] and set(layer.states()) == {state}, summary["refused"]
        if state == Lifecycle.GERMINATED:
            layer.prepare(dtype)
    assert layer.array("alpha").eq(1).all()
    layer.prepare(row_type or dtype)
    return layer.eval()


def _command(seed, action):
    evidence = {"validation_delta": 1.0, "stability": 1.0} if action == Action.FINE_TUNE else {}
    return Command(seed, action, blueprint=seed if action == Action.GERMINATE else 0, **evidence)


@torch.no_grad()
def give_parameters(layer, modules):
    """Puts the parameters of module `i` into the slot of seed `i`."""
    for bank, module in zip(layer.banks(), modules):
        values = [parameter.flatten() for parameter in module.parameters()]
        if values:
            bank[0].copy_(torch.cat(values))


def run_layer(layer, x, gradient):
    """Output, gradient of x, and for each seed the gradient of its parameters."""
    layer.zero_grad()
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    y.backward(gradient)
    return y.detach(), x.grad, [bank.grad[0] for bank in layer.banks()]


def run_modules(modules, x, gradient):
    """The same by modules, one for each chunk of x."""
    outputs, of_x, of_parameters = [], [], []
    width = x.shape[-1] // len(modules)
    for module, chunk, of_output in zip(modules, x.split(width, -1), gradient.split(width, -1)):
        parameters = list(module.parameters())
        chunk = chunk.detach().clone().requires_grad_()
        y = module(chunk)
        inputs = [chunk, *parameters]
        if y.requires_grad:
            found = torch.autograd.grad(y, inputs, of_output, allow_unused=True, materialize_grads=True)
        else:  # It depends on its inputs through truth values only.
            found = [torch.zeros_like(value) for value in inputs]
        outputs.append(y.detach())
        of_x.append(found[0])
        of_parameters.append(
            torch.cat([gradient.flatten() for gradient in found[1:]]) if parameters else x.new_empty(0)
        )
    return torch.cat(outputs, -1), torch.cat(of_x, -1), of_parameters
