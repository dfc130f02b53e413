"""Snapshots of layers, of tensors and of whole trainings, and the guard over the loss."""

import math

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle, LossGuard, SnapshotMismatch, TensorSnapshot, TrainingSnapshot

STATE = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags telemetry loss "
    "germinations strategy_memory"
).split()
BANK = "parameters first_moment second_moment steps mode non_finite".split()


def everything(layer):
    """Every array of a layer, bit for bit."""
    arrays = [layer.array(name) for name in STATE]
    arrays += [layer.bank_array(index, name) for index in range(len(layer.banks())) for name in BANK]
    return [array.contiguous().view(torch.uint8).clone() for array in arrays]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class Network(torch.nn.Module):
    """A host with a grafted seed and one in isolated training in it."""

    def __init__(self, device):
        super().__init__()
        self.first = torch.nn.Linear(6, 16, device=device)
        self.norm = torch.nn.BatchNorm1d(16, device=device)
        self.kasmina = layer_of([("bottleneck", 3)], device=device)
        bring(self.kasmina, 0, Lifecycle.GRAFTING)
        bring(self.kasmina, 2, Lifecycle.TRAINING)
        self.last = torch.nn.Linear(16, 1, device=device)

    def forward(self, x):
        return self.last(self.kasmina(self.norm(self.first(x))))


def optimisers(network):
    seeds, others = kasmina.split_parameters(network)
    return kasmina.AdamW(seeds, lr=1e-2), torch.optim.AdamW(others, lr=1e-2)


def batches(device, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(32, 6, generator=generator).to(device) for _ in range(count)]


def train(network, optimizers, batches):
    """Trains, and returns the losses."""
    losses = []
    for x in batches:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (network(x).squeeze(1) - x.sum(1)).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


def weights(network, optimizers):
    """Every tensor that training changes, copied."""
    _, others = kasmina.split_parameters(network)
    tensors = [*others, *network.buffers()]
    tensors += [t for o in optimizers for state in o.state.values() for t in state.values() if torch.is_tensor(t)]
    return [tensor.detach().clone() for tensor in tensors] + everything(network.kasmina)


def test_a_restored_layer_is_the_one_that_the_snapshot_was_taken_of_bit_for_bit(device):
    network = Network(device)
    layer, optimizers = network.kasmina, optimisers(network)
    train(network, optimizers, batches(device, 3))
    x = torch.randn(8, 16, device=device)
    layer.eval()
    then, output, checkpoint = everything(layer), layer(x), layer.to_bytes()
    snapshot = layer.snapshot()
    assert snapshot.epoch == layer.report()["epoch"] and snapshot.bytes > 0
    layer.train()
    train(network, optimizers, batches(device, 5))
    layer.end_epoch()
    layer.roll_back(0, "for a change")
    randomise(layer)
    assert not same(everything(layer), then)

    done = layer.restore(snapshot, "as a test")
    assert (done["to_epoch"], done["reason"]) == (snapshot.epoch, "as a test")
    assert same(everything(layer), then) and layer.to_bytes() == checkpoint
    layer.eval()
    assert torch.equal(layer(x), output)
    assert layer.end_epoch()["restored"] == [done]


def test_the_parameters_of_a_restored_layer_are_the_tensors_that_optimisers_know(device):
    network = Network(device)
    bank, memory = network.kasmina.banks()[0], network.kasmina.banks()[0].data_ptr()
    snapshot, then = network.kasmina.snapshot(), network.kasmina.banks()[0].detach().clone()
    bank.data = torch.zeros_like(bank)
    network.kasmina.restore(snapshot)
    assert network.kasmina.banks()[0] is bank and bank.data_ptr() == memory and torch.equal(bank, then)


def test_training_from_a_restore_repeats_itself_bit_for_bit(device):
    torch.use_deterministic_algorithms(True)
    try:
        network = Network(device)
        optimizers = optimisers(network)
        train(network, optimizers, batches(device, 2))
        snapshot = TrainingSnapshot(network, *optimizers)
        first = train(network, optimizers, batches(device, 4, seed=1)), weights(network, optimizers)
        snapshot.restore("again")
        again = train(network, optimizers, batches(device, 4, seed=1)), weights(network, optimizers)
    finally:
        torch.use_deterministic_algorithms(False)
    assert first[0] == again[0] and same(first[1], again[1])


def test_a_snapshot_is_not_changed_by_training_and_can_be_taken_anew_into_the_same_memory(device):
    network = Network(device)
    layer, optimizers = network.kasmina, optimisers(network)
    snapshot, then = layer.snapshot(), everything(layer)
    train(network, optimizers, batches(device, 3))
    layer.restore(snapshot)
    assert same(everything(layer), then)
    train(network, optimizers, batches(device, 3))
    later = everything(layer)
    assert layer.snapshot(into=snapshot) is snapshot
    train(network, optimizers, batches(device, 3))
    layer.restore(snapshot)
    assert same(everything(layer), later) and not same(later, then)


def test_a_backward_pass_from_before_a_restore_is_refused(device):
    network = Network(device)
    snapshot = network.kasmina.snapshot()
    loss = network(batches(device, 1)[0]).sum()
    network.kasmina.restore(snapshot)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_isolated_training_goes_on_after_a_restore_from_a_time_when_no_seed_trained(device):
    network = Network(device)
    layer = network.kasmina
    snapshot = layer.snapshot()
    layer.roll_back(2, "stop it")
    layer.restore(snapshot)
    steps = sum(layer.bank_array(0, "steps").tolist())
    layer(torch.randn(8, 16, device=device))
    assert sum(layer.bank_array(0, "steps").tolist()) == steps + 1


def test_wrong_snapshots_are_refused_by_name(device):
    layer, other = (layer_of([("residual", 2)], device=device) for _ in range(2))
    snapshot = layer.snapshot()
    with pytest.raises(SnapshotMismatch, match="of another layer"):
        other.restore(snapshot)
    with pytest.raises(SnapshotMismatch, match="of another layer"):
        other.snapshot(into=snapshot)
    layer.add_blueprint("attention", 1)
    with pytest.raises(SnapshotMismatch, match="1 blueprints, and the layer has 2"):
        layer.restore(snapshot)
    snapshot = layer.snapshot()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(SnapshotMismatch, match="moved, loaded or copied"):
        layer.restore(snapshot)


def test_commands_that_were_accepted_since_are_dropped_and_named(device):
    layer = layer_of([("residual", 4)], device=device)
    layer.germinate(0)
    snapshot = layer.snapshot()
    layer.germinate(1, reason="too late")
    done = layer.restore(snapshot)
    assert [[(c["seed"], c["reason"]) for c in batch] for batch in done["dropped"]] == [[(1, "too late")]]
    assert [record["seed"] for record in layer.end_epoch()["applied"]] == [0]


def test_any_tensors_are_snapshot_and_restored_in_place(device):
    tensors = [torch.randn(3, 4, device=device), torch.arange(5, device=device), torch.randn(4, 4, device=device).t()]
    tensors.append(torch.nn.Parameter(torch.randn(2, device=device, dtype=torch.float16)))
    then, places = [tensor.detach().clone() for tensor in tensors], [tensor.data_ptr() for tensor in tensors]
    snapshot = TensorSnapshot(tensors)
    for _ in range(2):
        with torch.no_grad():
            for tensor in tensors:
                tensor.mul_(3)
        snapshot.restore()
        assert same(tensors, then) and [tensor.data_ptr() for tensor in tensors] == places
    with torch.no_grad():
        tensors[0].zero_()
    snapshot.take()
    tensors[0].fill_(7)
    snapshot.restore()
    assert not tensors[0].any()


def test_a_tensor_of_another_shape_is_refused_before_anything_is_written():
    tensors = [torch.zeros(3), torch.zeros(2)]
    snapshot = TensorSnapshot(tensors)
    tensors[0].fill_(1)
    tensors[1].resize_(4)
    for use in (snapshot.take, snapshot.restore):
        with pytest.raises(ValueError, match=r"tensor 1 of the snapshot was \(\(2,\), .* and is \(\(4,\), "):
            use()
    assert tensors[0].all()


def test_a_training_goes_back_to_before_its_optimisers_had_any_state(device):
    network = Network(device)
    optimizers = optimisers(network)
    snapshot = TrainingSnapshot(network, *optimizers)
    first = train(network, optimizers, batches(device, 3))
    optimizers[1].param_groups[0]["lr"] = 100.0
    snapshot.restore()
    assert not optimizers[1].state and optimizers[1].param_groups[0]["lr"] == 1e-2
    assert train(network, optimizers, batches(device, 3)) == pytest.approx(first, rel=1e-5)


def test_a_training_is_taken_anew_when_its_layer_has_got_a_blueprint_or_another_device(device):
    network = Network(device)
    optimizers = optimisers(network)
    snapshot = TrainingSnapshot(network, *optimizers)
    network.kasmina.add_blueprint("residual", 1)
    with pytest.raises(SnapshotMismatch):
        snapshot.restore()
    snapshot.take()
    then = weights(network, optimizers)
    train(network, optimizers, batches(device, 2))
    snapshot.restore()
    assert same(weights(network, []), then)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_the_guard_takes_a_training_back_to_its_last_good_weights_and_says_why(device, value):
    network = Network(device)
    optimizers = optimisers(network)
    guard = LossGuard(network, *optimizers, every=4)
    loss_of = lambda x: (network(x).squeeze(1) - x.sum(1)).square().mean()  # noqa: E731
    for step, x in enumerate(batches(device, 20)):
        loss = loss_of(x)
        assert guard.observe(loss) is None
        if step % 4 == 0:
            # Now the guard has taken its snapshot.
            kept = weights(network, optimizers)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        network.first.weight.fill_(value)
        network.kasmina.banks()[0].fill_(value)
    reason = guard.observe(loss_of(batches(device, 1)[0]))
    assert "spikes" in reason if math.isfinite(value) else reason == f"the loss is {'NaN'}", reason
    assert same(weights(network, optimizers), kept)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert math.isfinite(train(network, optimizers, batches(device, 1))[0])


def test_the_guard_gives_up_aloud_when_restoring_does_not_help():
    network = torch.nn.Linear(2, 1)
    guard = LossGuard(network, attempts=2)
    with pytest.raises(RuntimeError, match="no loss was accepted before"):
        guard.observe(math.nan)
    assert guard.observe(1.0) is None
    assert [guard.observe(math.nan) for _ in range(2)] == ["the loss is NaN"] * 2
    with pytest.raises(RuntimeError, match="restored 2 times without a way past this"):
        guard.observe(math.nan)
    guard.take()
    assert guard.observe(torch.tensor(math.inf)) == "the loss is inf"


def test_thresholds_of_the_guard_that_mean_nothing_are_refused():
    for name in ("every", "attempts", "deviations", "rise", "decay", "warm_up"):
        with pytest.raises(ValueError, match=f"{name} of a loss guard is 0"):
            LossGuard(torch.nn.Linear(2, 1), **{name: 0})
    with pytest.raises(kasmina.Error, match="decay of a loss guard is 1"):
        LossGuard(torch.nn.Linear(2, 1), decay=1.0).observe(1.0)
