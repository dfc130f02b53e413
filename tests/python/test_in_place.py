"""The layer in the memory of its input: the bits of the layer out of place, and nothing written where it is identity."""

import copy
import pickle

import pytest
import torch
from growing import Between, growing_layer

import kasmina

K = torch.ops.kasmina
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAMES = ["f32", "bf16", "f16", "f64"]


def mixed(device, *, rows=torch.float32, **options):
    """One seed dormant, one training, one grafting, one fossilized, and two channels of tail."""
    dtype = torch.float64 if rows == torch.float64 else torch.float32
    layer, _ = growing_layer(device, dtype, hidden=34)
    layer.prepare(rows)
    for name, value in options.items():
        setattr(layer, name, value)
    return layer


def arguments(layer, telemetry=None):
    return layer.alpha, layer.banks(), telemetry, layer._id


@pytest.mark.parametrize("dtype", TYPES, ids=NAMES)
def test_the_input_becomes_the_output_bit_for_bit(dtype, device):
    layer = mixed(device, rows=dtype)
    for shape in [(34,), (1, 34), (5, 7, 34), (700, 34)]:
        x = torch.randn(shape, device=device, dtype=dtype)
        telemetry = [torch.zeros_like(layer.telemetry) for _ in range(2)]
        with torch.no_grad():
            wanted = K.forward(x, *arguments(layer, telemetry[0]))
            assert K.forward_(x, *arguments(layer, telemetry[1])) is None
        assert torch.equal(x, wanted)
        torch.testing.assert_close(telemetry[1], telemetry[0])
        if device.type == "cpu":
            assert torch.equal(telemetry[1], telemetry[0])


def test_a_layer_in_place_gives_its_input_back_and_trains_its_seeds_on_what_it_was(device):
    one, two = mixed(device), mixed(device, inplace=True)
    two.set_extra_state(one.get_extra_state())
    x = torch.randn(9, 34, device=device)
    before = one.bank_0.detach().clone()
    with torch.no_grad():
        wanted = one(x.clone())
        assert two(x) is x and torch.equal(x, wanted)
    torch.testing.assert_close(two.bank_0, one.bank_0)
    assert not torch.equal(one.bank_0, before), "the seed in TRAINING was trained"


@pytest.mark.parametrize("dtype", TYPES, ids=NAMES)
def test_what_identity_holds_is_not_touched(dtype, device):
    dormant = kasmina.Layer(32, 4, [("bottleneck", 2)], device=device, inplace=True)
    if dtype == torch.float64:
        dormant.double()
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    # Every kind of number: signalling NaNs with a payload, infinities, -0, the smallest ones.
    x = torch.randint(torch.iinfo(bits).min, torch.iinfo(bits).max, (64, 32), device=device, dtype=bits).view(dtype)
    before = x.clone()
    version = x._version
    with torch.no_grad():
        assert dormant(x) is x
    assert torch.equal(x.view(bits), before.view(bits))
    assert x._version == version + 1, "torch cannot know that nothing was written"


def views(device):
    """Tensors to write in place, each with the memory that it lies in."""

    def make(shape, take):
        base = torch.randn(shape, device=device)
        return base, take

    return {
        "a slice of wider rows": make((6, 60), lambda base: base[:, 5:39]),
        "every other row": make((12, 34), lambda base: base[::2]),
        "a transposed tensor": make((34, 6), lambda base: base.t()),
        "permuted leading dimensions": make((2, 3, 34), lambda base: base.transpose(0, 1)),
        "channels first": make((4, 34, 5), lambda base: base.transpose(1, 2)),
        "every other channel": make((2, 5, 68), lambda base: base[..., ::2]),
        "three strides": make((4, 8, 12, 40), lambda base: base[:, :6, :10, :34]),
        "a reversed order": make((34, 3, 5, 2), lambda base: base.permute(3, 2, 1, 0)),
        "no rows": make((3, 0, 34), lambda base: base),
    }


@pytest.mark.parametrize("name", views("cpu"))
def test_a_view_in_any_strides_is_written_and_nothing_beside_it(name, device):
    layer = mixed(device)
    base, take = views(device)[name]
    expected = base.clone()
    x = take(base)
    with torch.no_grad():
        take(expected).copy_(K.forward(x, *arguments(layer)))
        K.forward_(x, *arguments(layer))
    assert torch.equal(base, expected)


def test_elements_that_share_a_place_are_refused_and_kept(device):
    layer = mixed(device)
    for x in (torch.randn(1, 34, device=device).expand(6, 34), torch.randn((), device=device).expand(3, 5, 34)):
        before = x.clone()
        telemetry = layer.telemetry.clone()
        with torch.no_grad(), pytest.raises(RuntimeError, match="cannot be written in place.*a clone of it"):
            K.forward_(x, *arguments(layer, layer.telemetry))
        assert torch.equal(x, before) and torch.equal(layer.telemetry, telemetry)


def test_rows_of_a_type_that_the_layer_does_not_compute_in_are_refused_and_kept(device):
    layer = mixed(device)
    for dtype in (torch.float64, torch.int64):
        x = torch.ones(3, 34, device=device, dtype=dtype)
        with torch.no_grad(), pytest.raises(RuntimeError, match="kasmina"):
            K.forward_(x, *arguments(layer))
        assert torch.equal(x, torch.ones_like(x))


def test_under_autocast_the_rows_keep_their_type(device):
    layer = mixed(device, rows=torch.bfloat16, inplace=True)
    linear = torch.nn.Linear(6, 34, device=device)
    x = torch.randn(5, 6, device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        hidden = linear(x)
        wanted = K.forward(hidden, *arguments(layer))
        assert layer(hidden) is hidden and hidden.dtype == torch.bfloat16
        assert torch.equal(hidden, wanted)
        # f32 rows stay f32 rows.
        rows = torch.randn(5, 34, device=device)
        wanted = K.forward(rows, *arguments(layer))
        assert layer(rows).dtype == torch.float32 and torch.equal(rows, wanted)


class Model(Between):
    def forward(self, x):
        # What follows works in place as well, as in a network that saves memory.
        return self.last(torch.nn.functional.relu(self.layer(self.first(x)), inplace=True))


def gradients(model, x, run):
    model.zero_grad()
    state = model.layer.get_extra_state()
    x = x.clone().requires_grad_()
    y = run(x)
    y.square().sum().backward()
    found = [y.detach().clone(), x.grad, *(parameter.grad.clone() for parameter in model.parameters())]
    found.append(model.layer.telemetry.clone())
    model.layer.set_extra_state(state)
    return found


@pytest.mark.parametrize("channels", ["last", "first"])
def test_gradients_are_those_of_the_layer_out_of_place(channels, device):
    layer = mixed(device, channels=channels)
    model = Model(layer, channels)
    x = torch.randn(*((5, 6) if channels == "last" else (2, 6, 7, 9)), device=device)
    torch.use_deterministic_algorithms(True)
    try:
        wanted = gradients(model, x, model)
        layer.inplace = True
        found = gradients(model, x, model)
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert wanted[1].abs().sum() > 0 and layer.inplace


@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_model_computes_what_the_eager_one_does(backend, channels, device):
    if backend == "inductor" and device.type == "cpu":
        pytest.skip("it compiles for a minute; below is the layer alone")
    torch._dynamo.reset()
    model = Model(mixed(device, channels=channels, inplace=True), channels)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    x = torch.randn(*((5, 6) if channels == "last" else (2, 6, 7, 9)), device=device)
    torch.testing.assert_close(gradients(model, x, compiled), gradients(model, x, model), rtol=1e-4, atol=1e-4)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_compiled_layer_alone_writes_its_input(device):
    torch._dynamo.reset()
    layer = mixed(device, inplace=True).eval()
    x = torch.randn(5, 34, device=device)
    with torch.no_grad():
        wanted = K.forward(x, *arguments(layer))
        y = torch.compile(layer, fullgraph=True)(x)
    assert torch.equal(x, wanted) and torch.equal(y, wanted) and y.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("gradient", [False, True])
def test_opcheck_passes(gradient, device):
    layer = mixed(device)
    banks = layer.banks() if gradient else [bank.detach() for bank in layer.banks()]
    telemetry = None if gradient else torch.zeros_like(layer.telemetry)
    x = torch.randn(5, 34, device=device)
    results = torch.library.opcheck(K.forward_.default, (x, layer.alpha.clone(), banks, telemetry, layer._id))
    assert set(results.values()) == {"SUCCESS"} and len(results) == 4


def test_autograd_holds_it_to_the_rules_of_what_works_in_place(device):
    layer = mixed(device, inplace=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        layer(torch.randn(5, 34, device=device, requires_grad=True))
    # Somebody else's backward pass needs what x was.
    x = torch.randn(5, 34, device=device, requires_grad=True)
    hidden = x.exp()
    layer(hidden).sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()
    # In inference mode too, where no operator of autograd is called.
    saved = x * 1
    y = saved * saved
    with torch.inference_mode():
        layer(saved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with pytest.raises(NotImplementedError, match="reverse mode"):
        torch.func.jvp(lambda x: layer(x * 1), (x.detach(),), (x.detach(),))
    y = layer(x * 1)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        first.sum().backward()


def test_an_input_without_gradients_has_them_afterwards_if_the_banks_do(device):
    layer = mixed(device)
    x = torch.randn(5, 34, device=device)
    kept = x.clone()
    layer(x).square().sum().backward()
    wanted = layer.bank_0.grad.clone()
    layer.zero_grad()
    layer.inplace = True
    assert layer(x) is x and x.requires_grad
    x.square().sum().backward()
    torch.testing.assert_close(layer.bank_0.grad, wanted)
    assert not torch.equal(x, kept)


def test_the_choice_survives_copies_and_pickles_and_shows(device):
    layer = kasmina.Layer(8, 2, device=device, inplace=True)
    assert copy.deepcopy(layer).inplace and pickle.loads(pickle.dumps(layer)).inplace
    assert "inplace=True" in repr(layer) and "inplace" not in repr(kasmina.Layer(8, 2, device=device))
