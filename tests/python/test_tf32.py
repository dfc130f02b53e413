"""Whether f32 products may be rounded to TF32: torch's setting when a layer is made, unless its own settings say."""

import copy

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle


@pytest.fixture
def allowed():
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def setting(layer):
    """What the layer itself holds, as its checkpoint tells."""
    return b'"allow_tf32":true' in layer.to_bytes().replace(b"\\", b"")


def test_a_layer_follows_what_torch_allows_when_it_is_made(allowed, device):
    layer = kasmina.Layer(8, 2, device=device)
    torch.set_float32_matmul_precision("highest")
    assert setting(layer) and not setting(kasmina.Layer(8, 2, device=device))


def test_settings_have_the_last_word_and_checkpoints_keep_it(allowed, device):
    assert not setting(kasmina.Layer(8, 2, device=device, settings={"allow_tf32": False}))
    torch.set_float32_matmul_precision("highest")
    layer = kasmina.Layer(8, 2, device=device, settings={"allow_tf32": True})
    other = kasmina.Layer(8, 2, device=device)
    other.set_extra_state(layer.get_extra_state())
    assert setting(other)


def results(layer, x):
    """The output and the gradients of input and parameters, in f64 on the CPU."""
    x = x.clone().requires_grad_()
    output = layer(x)
    found = torch.autograd.grad((output * output).sum(), [x, *layer.banks()])
    return [tensor.detach().double().cpu() for tensor in (output, *found)]


def errors(device, allow):
    """How far each result is from that of f64, relative to the largest."""
    torch.manual_seed(0)
    blueprint = kasmina.Blueprint.library("bottleneck", 32, width=8)
    layer = layer_of([(blueprint, 2)], hidden=64, seeds=2, device=device, settings={"allow_tf32": allow})
    bring(layer, 1, Lifecycle.FINE_TUNING)
    randomise(layer)
    x = torch.randn(300, 64)
    exact = results(copy.deepcopy(layer).double().cpu(), x.double())
    found = results(layer, x.to(device))
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, exact, strict=True)]


def test_f32_is_as_exact_as_f32_unless_tf32_is_allowed(device):
    assert max(errors(device, False)) < 2e-5


def test_tf32_is_as_near_to_f64_as_its_11_bits_allow_and_no_nearer(device):
    found = errors(device, True)
    if device.type == "cpu" or torch.cuda.get_device_capability(device) < (8, 0):
        assert found == errors(device, False)
    else:
        assert all(2e-5 < error < 4e-3 for error in found), found
