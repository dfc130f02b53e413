"""The gradient of the input in the place of the output's, where nobody else has that: the bits of the operator that writes its own."""

import pytest
import torch
from growing import growing_layer

K = torch.ops.kasmina
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAMES = ["f32", "bf16", "f16", "f64"]


def mixed(device, rows=torch.float32):
    """One seed dormant, one training, one grafting, one fossilized, and two channels of tail."""
    layer, _ = growing_layer(device, torch.float64 if rows == torch.float64 else torch.float32, hidden=34)
    layer.prepare(rows)
    layer.prepare(rows, alpha_gradient=True)
    return layer


def operators_of(run):
    """The layer's backward operators that a call runs, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiled:
        run()
    return [event.key for event in profiled.key_averages() if event.key.startswith("kasmina::backward")]


def test_a_gradient_that_nobody_else_has_is_written(device):
    layer = mixed(device)
    linear = torch.nn.Linear(34, 34, device=device)
    found = []
    for holds in (False, True):
        x, kept = torch.randn(9, 34, device=device, generator=torch.Generator(device).manual_seed(0)), []
        x.requires_grad_()
        y = layer(x)
        if holds:
            y.register_hook(kept.append)
        of_y = linear.weight.sum(0).expand_as(x)
        names = operators_of(lambda y=y: linear(y).sum().backward())
        assert names == ["kasmina::backward" if holds else "kasmina::backward_"]
        assert not holds or torch.allclose(kept[0], of_y), "who held it finds in it what was there"
        found.append(x.grad)
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], of_y)


def test_behind_a_convolution_as_well(device):
    """There the gradient is a view of one that has its channels first."""
    layer = mixed(device)
    layer.channels = "first"
    after = torch.nn.Conv2d(34, 3, 1, device=device)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 34, 5, 4, device=device).to(memory_format=memory_format).requires_grad_()
        y = after(layer(x))
        assert operators_of(y.sum().backward) == ["kasmina::backward_"]
        held = []
        y = layer(x)
        y.register_hook(held.append)
        y = after(y)
        assert operators_of(y.sum().backward) == ["kasmina::backward"]


def test_a_gradient_that_the_caller_gives_is_left_alone(device):
    layer = mixed(device)
    x = torch.randn(9, 34, device=device, requires_grad=True)
    given = torch.randn_like(x)
    before = given.clone()
    found = [torch.autograd.grad(layer(x), x, given)[0] for _ in range(2)]
    assert torch.equal(given, before)
    torch.testing.assert_close(found[0], found[1])
    # As the residual connection of a network does: both branches get the same gradient.
    (layer(x) + x).backward(given)
    assert torch.equal(given, before)
    torch.testing.assert_close(x.grad, found[0] + given)


@pytest.mark.parametrize("dtype", TYPES, ids=NAMES)
def test_the_operator_gives_the_bits_of_the_one_that_writes_its_own(dtype, device):
    layer = mixed(device, dtype)
    banks = layer.banks()
    for shape in [(34,), (1, 34), (5, 7, 34), (700, 34), (3, 0, 34)]:
        x, gradient = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
        found = []
        for operator in (K.backward, K.backward_):
            of_banks, telemetry = [torch.zeros_like(bank) for bank in banks], torch.zeros_like(layer.telemetry)
            place = gradient.clone()
            with torch.no_grad():
                result = operator(place, x, layer.alpha, banks, of_banks, telemetry, layer._id, True, True)
            of_x, of_alpha = result if operator == K.backward else (place, result)
            found.append([of_x, of_alpha, telemetry, *of_banks])
        assert all(torch.equal(own, in_place) for own, in_place in zip(*found))


def test_it_lies_as_the_gradient_of_the_output_does(device):
    """What comes before the layer in a network adds to it or reads it, and is fast where both lie alike."""
    layer = mixed(device)
    alpha, banks = layer.alpha.detach(), [bank.detach() for bank in layer.banks()]
    rows = torch.randn(5, 3, 34, device=device)
    views = {
        "as x": rows,
        "batches and sequences exchanged": rows.transpose(0, 1).contiguous().transpose(0, 1),
        "channels first": rows.transpose(1, 2).contiguous().transpose(1, 2),
        "reversed": rows.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        "one row repeated": rows[:1].expand_as(rows),
        "wider rows": torch.randn(5, 3, 40, device=device)[..., :34],
    }
    for name, gradient in views.items():
        for x in (rows, rows.transpose(0, 1).contiguous().transpose(0, 1)):
            arguments = x, alpha, banks, [torch.zeros_like(bank) for bank in banks], None
            found = K.backward(gradient, *arguments, layer._id, False)[0]
            assert found.stride() == torch.empty_like(gradient).stride(), name
            wanted = K.backward(gradient.contiguous(), rows, *arguments[1:], layer._id, False)[0]
            if x is rows:
                torch.testing.assert_close(found, wanted)
            checked = torch.library.opcheck(K.backward.default, (gradient, *arguments, layer._id, False))
            assert set(checked.values()) == {"SUCCESS"}, name
        if name == "one row repeated":
            with torch.no_grad(), pytest.raises(RuntimeError, match="output_gradient cannot be written in place"):
                K.backward_(gradient, *arguments, layer._id, False)
        else:
            place = gradient.clone(memory_format=torch.preserve_format)
            checked = torch.library.opcheck(K.backward_.default, (place, *arguments, layer._id, False))
            assert set(checked.values()) == {"SUCCESS"}, name


def test_it_has_no_derivative_and_counts_as_written(device):
    layer = mixed(device)
    x = torch.randn(9, 34, device=device)
    arguments = x, layer.alpha, layer.banks(), [torch.zeros_like(bank) for bank in layer.banks()], None, layer._id, False
    with pytest.raises(NotImplementedError, match="backward_ has no derivative"):
        K.backward_(torch.ones_like(x).requires_grad_(), *arguments)
    gradient = torch.ones_like(x)
    with torch.no_grad():
        K.backward_(gradient, *arguments)
    assert gradient._version == 1
