"""State that is saved, loaded, copied and moved stays what it was, bit for bit."""

import copy
import gc
import io
import os
import pathlib
import pickle
import subprocess
import sys

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle


def mixed_layer(device, **options):
    layer = layer_of([("bottleneck", 3), ("normalized_mlp", 1)], device=device, **options)
    bring(layer, 0, Lifecycle.FOSSILIZED)
    bring(layer, 1, Lifecycle.GRAFTING)
    bring(layer, 2, Lifecycle.TRAINING, blueprint=1)
    randomise(layer)
    return layer


def same(one, other, x):
    """Whether two layers are in the same state and go on alike."""
    arrays = ["lifecycle", "blueprint", "slot", "alpha", "epochs_in_state"]
    assert all(torch.equal(one.array(name).cpu(), other.array(name).cpu()) for name in arrays)
    for _ in range(3):
        outputs = []
        for layer in (one, other):
            optimizer = kasmina.AdamW(layer.banks(), lr=0.01)
            optimizer.zero_grad()
            y = layer(x.to(layer.device))
            y.square().sum().backward()
            optimizer.step()
            layer.end_epoch()
            outputs.append([y.detach(), *(bank.detach().clone() for bank in layer.banks())])
        assert all(torch.equal(a, b) for a, b in zip(*outputs))
    return True


def test_a_copy_is_equal_and_apart(device):
    layer = mixed_layer(device)
    x = torch.randn(5, 16, device=device)
    twin = copy.deepcopy(layer)
    assert twin._id != layer._id and twin.bank_0.data_ptr() != layer.bank_0.data_ptr()
    assert same(layer, twin, x)
    with torch.no_grad():
        twin.bank_0.zero_()
    assert layer.bank_0.abs().sum() > 0


def test_a_copy_keeps_which_parameters_want_gradients(device):
    layer = mixed_layer(device)
    layer.bank_1.requires_grad_(False)
    twin = copy.deepcopy(layer)
    assert twin.bank_0.requires_grad and not twin.bank_1.requires_grad
    assert list(kasmina.split_parameters(twin)[0]) == list(twin.parameters())


def test_a_pickled_layer_comes_back(device):
    layer = mixed_layer(device)
    assert same(layer, pickle.loads(pickle.dumps(layer)), torch.randn(5, 16))


def test_a_state_dict_holds_the_layer_once(device):
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), mixed_layer(device))
    state = model.state_dict()
    assert sorted(state) == ["0.bias", "0.weight", "1._extra_state"]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    fresh = torch.nn.Sequential(torch.nn.Linear(6, 16), layer_of([], device=device))
    optimizer_knows = list(fresh.parameters())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert list(map(id, optimizer_knows)) == list(map(id, fresh.parameters()))[: len(optimizer_knows)]
    assert same(model[1], fresh[1], torch.randn(5, 16))


def test_loading_keeps_the_parameters_that_an_optimiser_knows(device):
    layer = mixed_layer(device)
    state = layer.state_dict()
    bank = layer.bank_0
    with torch.no_grad():
        bank.zero_()
    layer.load_state_dict(state)
    assert layer.bank_0 is bank and bank.abs().sum() > 0
    optimizer = kasmina.AdamW([bank], lr=0.1)
    before = bank.detach().clone()
    layer(torch.randn(5, 16, device=device)).sum().backward()
    optimizer.step()
    assert not torch.equal(bank, before)


@pytest.mark.parametrize("own", [1, 2, 4])
def test_a_layer_of_another_capacity_takes_the_checkpoints_and_more_slots_can_be_added(own, device):
    saved = layer_of([("bottleneck", 2)], device=device)
    for seed in range(2):
        bring(saved, seed, Lifecycle.GRAFTING)
    randomise(saved)
    layer = layer_of([("bottleneck", own)], device=device)
    bring(layer, 3, Lifecycle.GRAFTING)
    bank, x = layer.bank_0, torch.randn(5, 16, device=device)
    optimizer = kasmina.AdamW([bank], lr=0.01)
    layer(x).sum().backward()
    optimizer.step()

    layer.load_state_dict(saved.state_dict())
    assert layer.bank_0 is bank and bank.shape == saved.bank_0.shape
    before = bank.detach().clone()
    layer(x).sum().backward()
    optimizer.step()
    assert (bank.detach() != before).any(1).all(), "the optimiser knows the slots of the checkpoint"
    layer.load_state_dict(saved.state_dict())
    assert same(saved, layer, x)

    with pytest.raises(kasmina.Error, match="all 2 slots of bank 0"):
        layer.germinate(2)
    more = layer.add_blueprint("bottleneck", 2)
    layer.germinate(2, more)
    layer.end_epoch()
    assert layer.states() == [Lifecycle.GRAFTING, Lifecycle.GRAFTING, Lifecycle.GERMINATED, Lifecycle.DORMANT]


@pytest.mark.parametrize("use", ["copy", "end_epoch", "add_blueprint", "move"])
def test_parameters_that_were_given_other_memory_are_not_lost(use, device):
    layer = mixed_layer(device)
    for bank in layer.banks():
        bank.data = bank.data + 1
    wanted = [bank.detach().clone() for bank in layer.banks()]
    if use == "copy":
        layer = copy.deepcopy(layer)
    elif use == "end_epoch":
        layer.end_epoch()
    elif use == "add_blueprint":
        layer.add_blueprint("residual", 1)
    else:
        layer.double()
    for index, bank in enumerate(wanted):
        assert torch.equal(layer.banks()[index].to(bank), bank)
        assert layer.banks()[index].data_ptr() == layer.bank_array(index, "parameters").data_ptr()


def test_a_state_dict_of_another_shape_is_refused(device):
    layer = layer_of([], hidden=16, device=device)
    with pytest.raises(RuntimeError, match="32 channels"):
        layer.load_state_dict(layer_of([], hidden=32, device=device).state_dict())
    with pytest.raises(RuntimeError, match="_extra_state"):
        layer.load_state_dict({})
    with pytest.raises(RuntimeError, match="bank_0"):
        layer.load_state_dict({**layer.state_dict(), "bank_0": torch.zeros(1)})


def test_damaged_bytes_are_an_error(device):
    layer = mixed_layer(device)
    state = layer.state_dict()
    checkpoint = state["_extra_state"]
    for position in range(0, len(checkpoint), len(checkpoint) // 25):
        damaged = checkpoint.clone()
        damaged[position] ^= 1
        with pytest.raises(kasmina.Error):
            layer.load_state_dict({"_extra_state": damaged})
    with pytest.raises(kasmina.Error):
        layer.load_state_dict({"_extra_state": checkpoint[:100]})


IN_A_NEW_PROCESS = """
import sys, torch, kasmina
model = torch.nn.Sequential(torch.nn.Linear(6, 16), kasmina.Layer(16, 4, device=sys.argv[2])).to(sys.argv[2])
state = torch.load(sys.argv[1], weights_only=True)
model.load_state_dict(state["model"])
model.eval()
assert torch.equal(model(state["x"]), state["y"]), "the new process computes something else"
print("the same bits")
"""


def test_a_new_process_computes_the_same_bits(device, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), mixed_layer(device)).to(device)
    x = torch.randn(50, 6, device=device)
    y = model.eval()(x).detach()
    torch.save({"model": model.state_dict(), "x": x, "y": y}, tmp_path / "checkpoint.pt")
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path / "checkpoint.pt"), str(device)]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(kasmina.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "the same bits\n", done.stderr


def test_the_state_moves_with_the_module(device):
    if device.type == "cpu":
        pytest.skip("there is one device only")
    layer = mixed_layer("cpu")
    state = layer.to_bytes()
    bank, x = layer.bank_0, torch.randn(5, 16)
    layer(x).sum().backward()
    layer.to(device)
    assert layer.bank_0 is bank and bank.device == device and bank.grad.device == device
    assert layer.alpha.device == device and layer.states()[1] == Lifecycle.GRAFTING
    y = layer.eval()(x.to(device))
    reference = layer_of([])
    reference.set_extra_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    torch.testing.assert_close(y.cpu(), reference.eval()(x), rtol=2e-5, atol=2e-5)
    assert layer.cpu().bank_0.device.type == "cpu"


def test_a_layer_can_be_made_double(device):
    layer = mixed_layer(device)
    bank, before, x = layer.bank_0, layer.bank_0.detach().clone(), torch.randn(5, 16, device=device)
    y = layer(x)
    y.sum().backward()
    gradient = bank.grad.clone()
    layer.double()
    assert layer.bank_0 is bank and bank.dtype == bank.grad.dtype == torch.float64
    assert torch.equal(bank, before.double()) and torch.equal(bank.grad, gradient.double())
    torch.testing.assert_close(layer(x.double()).float(), y, rtol=1e-5, atol=1e-5)
    layer.float()
    assert torch.equal(bank, before) and bank.dtype == torch.float32


def test_half_precision_models_keep_float32_parameters(device):
    layer = mixed_layer(device)
    for convert in (layer.half, layer.bfloat16, layer.float):
        convert()
        assert layer.bank_0.dtype == torch.float32
    y = layer(torch.randn(3, 16, device=device, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16


def test_a_module_that_only_changes_place_does_nothing(device):
    layer = mixed_layer(device)
    memory = layer.bank_0.data_ptr()
    layer.to(device).float()
    assert layer.bank_0.data_ptr() == memory


def test_tensors_over_the_librarys_memory_outlive_the_layer(device):
    layer = mixed_layer(device)
    alpha, bank = layer.array("alpha"), layer.bank_array(0, "parameters")
    kept = alpha.clone(), bank.clone()
    del layer
    gc.collect()
    torch.randn(1000, device=device)
    assert torch.equal(alpha, kept[0]) and torch.equal(bank, kept[1])
