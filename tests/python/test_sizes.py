"""Layers of any size: chunks from 1 to 1024 channels, from 1 to 100 000 seeds, and a million rows."""

import copy

import pytest
import torch
from grafted import give_parameters, grafted, run_layer, run_modules
from growing import OPEN, layer_of, randomise

import kasmina
from kasmina import Lifecycle

# Few are powers of two, and each of the others ends in another place of a vector.
WIDTHS = [1, 2, 3, 7, 31, 100, 127, 255, 513, 1000, 1023, 1024]
BLUEPRINTS = ["residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite", "normalized_mlp"]


@pytest.mark.parametrize("width", WIDTHS)
def test_chunks_of_any_width_are_computed_as_torch_does(width, device):
    torch.manual_seed(width)
    blueprints = [kasmina.Blueprint.library(name, width) for name in BLUEPRINTS]
    layer = grafted(blueprints, device=device, dtype=torch.float64)
    modules = [kasmina.to_module(blueprint).double().to(device) for blueprint in blueprints]
    for module in modules:
        for parameter in module.parameters():
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    give_parameters(layer, modules)
    x = torch.randn(37, layer.hidden, device=device, dtype=torch.float64)
    gradient = torch.randn_like(x)
    found, wanted = run_layer(layer, x, gradient), run_modules(modules, x, gradient)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def grown(name, hidden, seeds, growing, device):
    """A layer whose first `growing` seeds are in GRAFTING, taken there in one batch for each step."""
    settings = {"training": {**OPEN["training"], "places": growing}}
    layer = layer_of([(name, growing)], hidden=hidden, seeds=seeds, device=device, settings=settings)
    for action in (kasmina.Action.GERMINATE, kasmina.Action.START_TRAINING, kasmina.Action.START_GRAFTING):
        layer.prepare()
        layer.submit(*(kasmina.Command(seed, action) for seed in range(growing)))
        for _ in range(2):
            layer(torch.randn(2, hidden, device=device))  # what seeds in TRAINING learn from, and a gate asks for
            layer.end_epoch()
    layer.telemetry.zero_()
    randomise(layer)
    return layer


@pytest.mark.parametrize("seeds", [1, 3, 1000, 100_000])
def test_any_number_of_seeds_grows_in_one_batch(seeds, device):
    # With a tail, where a tail is not so wide that chunks would be wider.
    layer = grown("residual", 3 * seeds + (2 if seeds > 2 else 0), seeds, seeds, device)
    assert set(layer.states()) == {Lifecycle.GRAFTING}
    x = torch.randn(2, layer.hidden, device=device, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    bank, slots = layer.bank_0.detach(), layer.array("slot").long()
    alpha = layer.alpha.reshape(seeds, 1)
    w, s = bank[slots, :3], bank[slots, 3:]
    wanted = x.detach()[:, : 3 * seeds].reshape(2, seeds, 3) + alpha * w * s
    torch.testing.assert_close(y[:, : 3 * seeds].reshape(2, seeds, 3), wanted)
    assert torch.equal(y[:, 3 * seeds :], x[:, 3 * seeds :])
    torch.testing.assert_close(layer.bank_0.grad[slots, :3], (2 * alpha * s).expand(seeds, 3))


def test_1024_seeds_train_in_isolation_at_once_and_the_host_sees_none_of_it(device):
    seeds = 1024
    settings = {"training": {"loss_threshold": 1e-9, "learning_rate": 0.01}}
    layer = layer_of([("bottleneck", seeds + 1)], hidden=4 * seeds + 6, seeds=seeds + 1, device=device, settings=settings)
    dormant = copy.deepcopy(layer)
    layer.submit(*(kasmina.Command(seed, kasmina.Action.GERMINATE) for seed in range(seeds + 1)))
    layer.end_epoch()
    layer.prepare()
    layer.submit(*(kasmina.Command(seed, kasmina.Action.START_TRAINING) for seed in range(seeds)))
    with pytest.raises(kasmina.TransitionRefused, match="1024 seeds are training and there are 1024 places"):
        layer.start_training(seeds)
    layer.end_epoch()
    randomise(layer)
    before = layer.bank_0.detach().clone()

    resumed = None
    for step in range(6):
        x, gradient = torch.randn(2, 8, layer.hidden, device=device)
        if step == 3:
            resumed = layer_of([], hidden=layer.hidden, seeds=layer.seeds, device=device)
            resumed.load_state_dict(layer.state_dict())
        results = []
        for each in filter(None, (layer, dormant, resumed)):
            entered = x.clone().requires_grad_()
            left = each(entered)
            left.backward(gradient)
            results.append(torch.stack([left.detach(), entered.grad]).view(torch.int32))
        assert all(torch.equal(result, results[0]) for result in results), f"step {step}"
    slots = layer.array("slot").long()
    moved = (layer.bank_0.detach() != before).any(1)[slots]
    assert moved[:seeds].all() and not moved[seeds], "each seed in TRAINING has learnt, and no other"
    layer.end_epoch(), resumed.end_epoch()
    assert layer.to_bytes() == resumed.to_bytes(), "training goes on from a checkpoint bit for bit"


def test_a_million_rows_are_computed_as_a_thousand_times_a_thousand(device):
    layer = grown("bottleneck", 9, 2, 1, device)
    x = torch.randn(1000, 9, device=device).repeat(1000, 1).requires_grad_()
    y = layer(x)
    y.square().sum().mul(1e-3).backward()
    part = x.detach()[:1000].requires_grad_()
    whole, layer.bank_0.grad = layer.bank_0.grad, None
    wanted = layer(part)
    wanted.square().sum().backward()
    assert torch.equal(y.reshape(1000, 1000, 9), wanted.expand(1000, 1000, 9))
    torch.testing.assert_close(layer.bank_0.grad, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
    assert layer.telemetry[0, 0] == 4 * 1_001_000
