"""Where channels and rows lie: behind convolutions, and in any strides."""

import copy

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle

K = torch.ops.kasmina
FORMATS = [torch.contiguous_format, torch.channels_last]


def layers(device, **options):
    """The same layer twice, for channels last and first: one seed dormant, one grafting, one fossilized, and a tail."""
    pair = []
    for channels in ("last", "first"):
        torch.manual_seed(0)
        layer = layer_of([("bottleneck", 3)], hidden=14, seeds=3, device=device, **options)
        layer.channels = channels
        bring(layer, 1, Lifecycle.GRAFTING)
        bring(layer, 2, Lifecycle.FOSSILIZED)
        randomise(layer)
        pair.append(layer)
    return pair


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=["f32", "bf16", "f64"])
def test_behind_a_convolution_the_bits_are_those_of_channels_last(memory_format, dtype, device):
    torch.use_deterministic_algorithms(True)
    try:
        last, first = layers(device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        convolution = torch.nn.Conv2d(3, 14, 3, device=device, dtype=dtype).to(memory_format=memory_format)
        for pictures in (1, 4):
            with torch.no_grad():
                x = convolution(torch.randn(pictures, 3, 11, 9, device=device, dtype=dtype))
                x = x.to(memory_format=memory_format)
            gradient = torch.randn_like(x)
            expected_x = x.permute(0, 2, 3, 1).contiguous().requires_grad_()
            expected = last(expected_x)
            expected.backward(gradient.permute(0, 2, 3, 1).contiguous())
            x.requires_grad_()
            y = first(x)
            y.backward(gradient)
            assert y.stride() == x.stride() and x.grad.stride() == x.stride()
            assert torch.equal(y, expected.permute(0, 3, 1, 2)) and not torch.equal(y, x)
            assert torch.equal(x.grad, expected_x.grad.permute(0, 3, 1, 2))
            assert torch.equal(first.bank_0.grad, last.bank_0.grad) and first.bank_0.grad.abs().sum() > 0
            if device.type == "cpu":
                assert torch.equal(first.telemetry, last.telemetry)
    finally:
        torch.use_deterministic_algorithms(False)


def test_any_strides_come_back_dense_in_the_same_order(device):
    layer, _ = layers(device)
    layer.eval()
    wide = torch.randn(4, 20, 6, 10, device=device)
    views = {
        "channels first": wide[:, :14].movedim(1, -1),
        "channels first, packed": wide[:, :14].contiguous().movedim(1, -1),
        "batches and sequences exchanged": torch.randn(5, 4, 14, device=device).transpose(0, 1),
        "padded pictures": torch.randn(4, 8, 12, 14, device=device)[:, :6, :10],
        "three strides": torch.randn(4, 8, 12, 20, device=device)[:, :6, :10, :14],
        "height and width exchanged": wide[:, :14].contiguous().movedim(1, -1).transpose(1, 2),
        "reversed": torch.randn(14, 3, 5, 2, device=device).permute(3, 2, 1, 0),
        "every other channel": torch.randn(2, 5, 28, device=device)[..., ::2],
        "one row repeated": torch.randn(14, device=device).expand(3, 5, 14),
        "one number repeated": torch.randn((), device=device).expand(3, 5, 14),
    }
    for name, x in views.items():
        y = layer(x)
        assert torch.equal(y, layer(x.contiguous())), name
        assert y.stride() == torch.empty_like(x).stride(), name
        meta = K.forward(x.to("meta"), layer.alpha.to("meta"), [b.to("meta") for b in layer.banks()], None, layer._id)
        assert meta.shape == y.shape
        results = torch.library.opcheck(K.forward.default, (x, layer.alpha, layer.banks(), None, layer._id))
        assert set(results.values()) == {"SUCCESS"}, name


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_convolutional_model_trains_as_the_eager_one_does(backend, memory_format, device):
    torch._dynamo.reset()
    _, layer = layers(device)
    convolutions = [torch.nn.Conv2d(3, 14, 3, device=device), torch.nn.Conv2d(14, 2, 3, device=device)]
    model = torch.nn.Sequential(convolutions[0], torch.nn.ReLU(), layer, torch.nn.ReLU(), convolutions[1])
    model.to(memory_format=memory_format)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for pictures in (2, 3, 4):
        x = torch.randn(pictures, 3, 8, 7, device=device).to(memory_format=memory_format)
        found = []
        for run in (model, compiled):
            model.zero_grad()
            y = run(x)
            y.square().sum().backward()
            found.append([y.detach().clone(), *(p.grad.clone() for p in model.parameters())])
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_isolated_training_takes_targets_in_the_layout_of_the_input(device):
    settings = {"training": {"loss_threshold": 1e30, "learning_rate": 0.01}}
    pair = []
    for channels in ("last", "first"):
        layer = layer_of([("residual", 3)], hidden=12, seeds=3, device=device, settings=settings)
        layer.channels = channels
        bring(layer, 1, Lifecycle.TRAINING)
        pair.append(layer)
    x, target = torch.randn(2, 12, 5, 3, device=device), torch.randn(2, 12, 5, 3, device=device)
    pair[0](x.movedim(1, -1).contiguous(), target.movedim(1, -1).contiguous())
    pair[1](x, target)
    assert torch.equal(pair[0].bank_0, pair[1].bank_0) and pair[0].array("loss")[1, 0] > 0


def test_where_channels_are_survives_a_copy_and_anything_else_is_refused(device):
    layer = kasmina.Layer(8, 2, channels="first", device=device)
    assert copy.deepcopy(layer).channels == "first" and "first" in repr(layer)
    assert layer(torch.randn(3, 8, 5, device=device)).shape == (3, 8, 5)
    with pytest.raises(RuntimeError, match="its last dimension must be 8"):
        layer(torch.randn(3, 5, 8, device=device))
    with pytest.raises(ValueError, match="'first' .axis 1. or 'last'"):
        kasmina.Layer(8, 2, channels="middle", device=device)
