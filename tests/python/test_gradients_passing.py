"""The gradient of the input: handed on as it is while the layer is idle, and lying as that of the output does."""

import pytest
import torch
from growing import growing_layer

import kasmina

K = torch.ops.kasmina
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAMES = ["f32", "bf16", "f16", "f64"]
# The column of telemetry that backward passes add to.
GRADIENT_SQUARES = 8


def mixed(device, rows=torch.float32):
    """One seed dormant, one training, one grafting, one fossilized, and two channels of tail."""
    layer, _ = growing_layer(device, torch.float64 if rows == torch.float64 else torch.float32, hidden=34)
    layer.prepare(rows)
    return layer


def idle(device, rows=torch.float32, **options):
    layer = kasmina.Layer(34, 4, [("bottleneck", 2)], device=device, **options)
    if rows == torch.float64:
        layer.double()
    layer.prepare(rows)
    return layer


def operators_of(run):
    """The operators on gradients that a call runs for layers, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiled:
        run()
    names = (event.key.removeprefix("kasmina::") for event in profiled.key_averages())
    return sorted(name for name in names if name in ("backward", "observe_gradient"))


@pytest.mark.parametrize("dtype", TYPES, ids=NAMES)
@pytest.mark.parametrize("channels", ["last", "first"])
def test_an_idle_layer_hands_the_gradient_on_and_sees_what_a_backward_pass_sees(channels, dtype, device):
    layer = idle(device, dtype, channels=channels)
    x = torch.randn(3, 34, 34, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn_like(x)
    found = []
    assert operators_of(lambda: found.extend(torch.autograd.grad(layer(x), (x, layer.bank_0), gradient))) == ["observe_gradient"]
    of_x, of_bank = found
    assert of_x.data_ptr() == gradient.data_ptr() and torch.equal(of_x, gradient)
    assert of_bank.shape == layer.bank_0.shape and not of_bank.any()
    seen = layer.telemetry.clone()
    layer.telemetry.zero_()
    rows = [t.detach().movedim(1, -1) if channels == "first" else t.detach() for t in (gradient, x)]
    banks = [bank.detach() for bank in layer.banks()]
    K.backward(*rows, layer.alpha, banks, [torch.zeros_like(bank) for bank in banks], layer.telemetry, layer._id, False)
    torch.testing.assert_close(seen[:, GRADIENT_SQUARES], layer.telemetry[:, GRADIENT_SQUARES])
    assert seen[:, GRADIENT_SQUARES].all()


def test_a_layer_of_which_a_seed_applies_its_blueprint_runs_backward(device):
    layer = mixed(device)
    x = torch.randn(9, 34, device=device, requires_grad=True)
    given = torch.randn_like(x)
    before = given.clone()
    found = []
    names = operators_of(lambda: found.extend(torch.autograd.grad(layer(x), x, given)))
    assert names == ["backward", "observe_gradient"]
    assert torch.equal(given, before) and not torch.equal(found[0], given)


def test_where_derivatives_or_graphs_are_recorded_the_operator_is(device):
    layer = idle(device)
    x = torch.randn(9, 34, device=device, requires_grad=True)
    assert operators_of(lambda: torch.autograd.grad(layer(x).sum(), x, create_graph=True)) == ["backward"]
    compiled = torch.compile(layer, backend="aot_eager")
    compiled(x).sum().backward()
    assert operators_of(lambda: compiled(x).sum().backward()) == ["backward"]
    if device.type != "cuda":
        return
    graph = torch.cuda.CUDAGraph()
    gradient = torch.ones_like(x)
    with torch.cuda.graph(graph):
        (of_x,) = torch.autograd.grad(layer(x), x, gradient)
    assert of_x.data_ptr() != gradient.data_ptr()


def test_gradients_that_several_have_stay_what_they_are(device):
    """Both branches of a sum get one tensor, and a hook may keep it."""
    layer = idle(device)
    x = torch.randn(9, 34, device=device, requires_grad=True)
    kept = []
    hidden = x * 1.0
    y = layer(hidden)
    y.register_hook(kept.append)
    ((y + hidden) * 3.0).sum().backward()
    assert torch.equal(kept[0], torch.full_like(x, 3.0)) and torch.equal(x.grad, torch.full_like(x, 6.0))


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
            arguments = x, alpha, banks, [torch.zeros_like(bank) for bank in banks], None, layer._id, False
            found = K.backward(gradient, *arguments)[0]
            assert found.stride() == torch.empty_like(gradient).stride(), name
            wanted = K.backward(gradient.contiguous(), rows, *arguments[1:])[0]
            torch.testing.assert_close(found, wanted)
            checked = torch.library.opcheck(K.backward.default, (gradient, *arguments))
            assert set(checked.values()) == {"SUCCESS"}, name


def test_the_operator_says_whether_the_gradient_may_pass(device):
    gradient = torch.randn(9, 34, device=device)
    for layer, may in ((idle(device), True), (mixed(device), False)):
        before = layer.telemetry.clone()
        assert K.observe_gradient(gradient, None, layer._id) is may and torch.equal(layer.telemetry, before)
        assert K.observe_gradient(gradient, layer.telemetry, layer._id) is may
        assert torch.equal(layer.telemetry, before) is not may
    layer = idle(device)
    with pytest.raises(RuntimeError, match="output_gradient has shape"):
        K.observe_gradient(torch.randn(9, 33, device=device), None, layer._id)
