"""Optimisers move the slots of seeds that train on the main loss, and no others."""

import gc

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle

FOREIGN = {
    "AdamW": lambda banks: torch.optim.AdamW(banks, lr=0.1, weight_decay=0.5),
    "AdamW fused": lambda banks: torch.optim.AdamW(banks, lr=0.1, weight_decay=0.5, fused=True),
    "SGD": lambda banks: torch.optim.SGD(banks, lr=0.1, momentum=0.9, weight_decay=0.5),
    "RMSprop": lambda banks: torch.optim.RMSprop(banks, lr=0.1, momentum=0.9, weight_decay=0.5),
}


def layer_with_slots(device, **settings):
    """Slots: 0 fossilized, 1 stabilised, 2 grafting, 3 training in isolation, 4 free."""
    layer = layer_of([("bottleneck", 5)], hidden=20, seeds=5, device=device, settings=settings)
    for seed, state in enumerate(
        [Lifecycle.FOSSILIZED, Lifecycle.STABILIZATION, Lifecycle.GRAFTING, Lifecycle.TRAINING]
    ):
        bring(layer, seed, state)
    assert layer.array("slot").tolist() == [0, 1, 2, 3, -1]
    randomise(layer)
    return layer


def loss(layer):
    return layer(torch.randn(8, layer.hidden, device=layer.device)).square().sum()


@pytest.mark.parametrize("name", FOREIGN)
def test_frozen_slots_keep_their_bits_under_any_optimiser(name, device):
    layer = layer_with_slots(device)
    optimizer = FOREIGN[name](layer.banks())
    before = layer.bank_0.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        loss(layer).backward()
        optimizer.step()
    same = (layer.bank_0 == before).all(dim=1).tolist()
    # The learning rate of isolated training is 0 in these tests, so slot 3 moves only if the optimiser moves it.
    assert same == [True, True, False, True, True]
    for state in optimizer.state[layer.bank_0].values():
        if state.shape == before.shape:
            assert state[[0, 1, 3, 4]].abs().sum() == 0 and state[2].abs().sum() > 0


def test_the_masked_optimiser_moves_trained_slots_as_adamw_does(device):
    layer = layer_with_slots(device)
    before = layer.bank_0.detach().clone()
    # What isolated training left is not what this test is about.
    for name in ("first_moment", "second_moment", "steps"):
        layer.bank_array(0, name).zero_()
    row = before[2:3].clone().requires_grad_()
    rates = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    masked, plain = kasmina.AdamW(layer.banks(), **rates), torch.optim.AdamW([row], **rates)
    for _ in range(5):
        masked.zero_grad()
        loss(layer).backward()
        row.grad = layer.bank_0.grad[2:3].clone()
        masked.step()
        plain.step()
    torch.testing.assert_close(layer.bank_0[2:3], row, rtol=1e-6, atol=1e-6)
    assert torch.equal(layer.bank_0[[0, 1, 3, 4]], before[[0, 1, 3, 4]])
    assert layer.bank_array(0, "steps")[2] == 5


def test_a_slot_that_is_used_again_begins_without_momentum(device):
    layer = layer_of([("bottleneck", 1)], device=device, settings={"embargo_epochs": 0})
    bring(layer, 0, Lifecycle.FINE_TUNING)
    optimizer = kasmina.AdamW(layer.banks(), lr=0.1)
    loss(layer).backward()
    optimizer.step()
    assert layer.bank_array(0, "first_moment").abs().sum() > 0
    layer.cull(0)
    layer.end_epoch()
    layer.end_epoch()
    layer.reset(0)
    layer.end_epoch()
    layer.germinate(1)
    layer.end_epoch()
    assert layer.array("slot").tolist() == [-1, 0, -1, -1]
    for name in ("first_moment", "second_moment", "steps"):
        assert layer.bank_array(0, name).float().abs().sum() == 0


def test_isolated_training_inside_a_closure_is_kept(device):
    settings = {"loss_threshold": 1e30, "learning_rate": 0.01}
    layer = layer_with_slots(device, training=settings)
    optimizer = torch.optim.SGD(layer.banks(), lr=0.1, weight_decay=0.5)
    before = layer.bank_0.detach().clone()
    after_training = []

    def closure():
        optimizer.zero_grad()
        value = loss(layer)
        after_training.append(layer.bank_0[3].detach().clone())
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.equal(layer.bank_0[3], after_training[0]) and not torch.equal(layer.bank_0[3], before[3])
    assert torch.equal(layer.bank_0[[0, 1, 4]], before[[0, 1, 4]])


def test_an_optimiser_may_outlive_its_layer(device):
    layer = layer_with_slots(device)
    optimizers = [torch.optim.AdamW(layer.banks()), kasmina.AdamW(layer.banks())]
    loss(layer).backward()
    del layer
    gc.collect()
    for optimizer in optimizers:
        optimizer.step()


def test_parameters_are_told_apart(device):
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), layer_of([("bottleneck", 1), ("residual", 2)]))
    seeds, others = kasmina.split_parameters(model)
    assert [id(p) for p in seeds] == [id(p) for p in model[1].banks()]
    assert [id(p) for p in others] == [id(p) for p in model[0].parameters()]
    with pytest.raises(ValueError, match="split_parameters"):
        kasmina.AdamW(model.parameters())


def test_the_masked_optimiser_takes_a_scheduler_and_a_state_dict(device):
    layer = layer_with_slots(device)
    optimizer = kasmina.AdamW(layer.banks(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    loss(layer).backward()
    optimizer.step()
    scheduler.step()
    other = kasmina.AdamW(layer.banks(), lr=1.0)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == pytest.approx(0.05)
