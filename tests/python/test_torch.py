"""The layer as torch sees it: operators, derivatives, compilation, element types, strides, streams."""

import pytest
import torch
from growing import bring, document, expected, growing_layer, layer_of, randomise
from torch.utils.checkpoint import checkpoint

import kasmina
from kasmina import Lifecycle

K = torch.ops.kasmina

LIBRARY = ["residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite", "normalized_mlp"]


def reference(layer, functions, x, gradient):
    """Output and gradients as plain torch computes them, in the compute type."""
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    x = x.detach().to(compute).requires_grad_()
    bank = layer.bank_0.detach().clone().requires_grad_()
    alpha = layer.array("alpha").clone().requires_grad_()
    y = expected(layer, x, functions, [bank], alpha)
    y.backward(gradient.to(compute))
    # Only seeds that train on the main loss have gradients.
    trains = (layer.bank_array(0, "mode") == 1).unsqueeze(1)
    return y.detach(), x.grad, bank.grad * trains, alpha.grad


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)],
    ids=["f64", "f32", "bf16", "f16"],
)
def test_a_layer_in_mixed_states_computes_what_torch_computes(dtype, tolerance, device):
    parameter_type = torch.float64 if dtype == torch.float64 else torch.float32
    layer, functions = growing_layer(device, parameter_type)
    x = torch.randn(7, 5, 18, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn_like(x)
    y = K.forward(x, layer.alpha, layer.banks(), layer.telemetry, layer._id)
    y.backward(gradient)
    wanted, x_gradient, bank_gradient, _ = reference(layer, functions, x, gradient)
    assert y.dtype == dtype and x.grad.dtype == dtype and layer.bank_0.grad.dtype == parameter_type
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(y.to(wanted.dtype), wanted, **close)
    torch.testing.assert_close(x.grad.to(wanted.dtype), x_gradient, **close)
    torch.testing.assert_close(layer.bank_0.grad, bank_gradient, rtol=tolerance, atol=10 * tolerance)


def test_alpha_has_a_gradient_when_asked_for(device):
    layer, functions = growing_layer(device, torch.float64)
    x = torch.randn(6, 18, device=device, dtype=torch.float64)
    gradient = torch.randn_like(x)
    alpha = layer.alpha.clone().requires_grad_()
    K.forward(x, alpha, layer.banks(), None, layer._id).backward(gradient)
    _, _, _, alpha_gradient = reference(layer, functions, x, gradient)
    torch.testing.assert_close(alpha.grad, alpha_gradient)


@pytest.mark.parametrize("name", LIBRARY)
def test_gradcheck_passes_for_every_library_blueprint(name, device):
    layer = layer_of([(name, 1)], hidden=9, seeds=2, device=device, dtype=torch.float64)
    bring(layer, 1, Lifecycle.GRAFTING)
    randomise(layer)
    x = torch.randn(3, 9, dtype=torch.float64, device=device, requires_grad=True)
    bank = layer.bank_0.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, bank: K.forward(x, layer.alpha, [bank], None, layer._id), (x, bank))


def operator_calls(layer):
    """Arguments for every operator."""
    x = torch.randn(5, 18, device=layer.device)
    banks = [bank.detach() for bank in layer.banks()]
    gradients = [torch.zeros_like(bank) for bank in banks]
    telemetry = torch.zeros_like(layer.telemetry)
    alpha = layer.alpha.clone()
    return {
        "forward": (x, alpha, banks, telemetry, layer._id),
        "forward with gradients": (x.clone().requires_grad_(), alpha, layer.banks(), None, layer._id, True),
        "backward": (x, x, alpha, banks, gradients, telemetry, layer._id, False),
        "backward with alpha": (x, x, alpha, banks, gradients, None, layer._id, True, True),
        "train_": (x, None, banks, layer._id),
        "train_ with target": (x, x.tanh(), banks, layer._id),
        "adamw_": (banks[0].clone(), gradients[0] + 1, layer._id, 0, 1e-3, 0.9, 0.999, 1e-8, 0.01),
    }


@pytest.mark.parametrize(
    "name",
    [
        "forward",
        "forward with gradients",
        "backward",
        "backward with alpha",
        "train_",
        "train_ with target",
        "adamw_",
    ],
)
def test_opcheck_passes(name, device):
    layer, _ = growing_layer(device)
    operator = getattr(K, name.split()[0]).default
    results = torch.library.opcheck(operator, operator_calls(layer)[name])
    assert set(results.values()) == {"SUCCESS"} and len(results) == 4


class Model(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first = torch.nn.Linear(6, layer.hidden, device=layer.device)
        self.layer = layer
        self.last = torch.nn.Linear(layer.hidden, 3, device=layer.device)

    def forward(self, x):
        return self.last(torch.relu(self.layer(self.first(x))))


def step(model, run, x):
    """One step's output and gradients, and what it did to the layer; the layer is put back as it was."""
    layer = model.layer
    before = layer.get_extra_state()
    model.zero_grad()
    y = run(x)
    y.square().sum().backward()
    result = [y.detach(), *(p.grad for p in model.parameters()), layer.bank_0.detach().clone(), layer.telemetry.clone()]
    layer.set_extra_state(before)
    return [tensor.clone() for tensor in result]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_model_trains_as_the_eager_one_does(backend, device):
    torch._dynamo.reset()
    layer, _ = growing_layer(device)
    model = Model(layer)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for rows in (5, 7, 8):
        x = torch.randn(rows, 6, device=device)
        eager, graph = step(model, model, x), step(model, compiled, x)
        torch.testing.assert_close(graph, eager, rtol=1e-5, atol=1e-5)
    assert not torch.equal(eager[-2], layer.bank_0), "the seed in TRAINING was trained"


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_changes_nothing(reentrant, device):
    layer, _ = growing_layer(device)
    model = Model(layer)

    def checkpointed(x):
        return checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)

    x = torch.randn(5, 6, device=device)
    plain, recomputed = step(model, model, x), step(model, checkpointed, x)
    # Telemetry as well: the second forward pass observes nothing and trains nothing.
    torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_autocast_gives_the_layer_bfloat16_rows(device):
    layer, _ = growing_layer(device)
    model = Model(layer)
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model.first(torch.randn(5, 6, device=device))
        y = layer(hidden)
    assert hidden.dtype == y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.bank_0.grad.dtype == torch.float32 and layer.bank_0.grad.abs().sum() > 0


def test_rows_are_taken_where_they_lie(device):
    layer, functions = growing_layer(device)
    wide = torch.randn(6, 40, device=device)
    views = {
        "a slice of wider rows": wide[:, 5:23],
        "every other row": wide[::2, :18],
        "a row repeated": torch.randn(1, 18, device=device).expand(6, 18),
        "a transposed tensor": torch.randn(18, 6, device=device).t(),
        "permuted leading dimensions": torch.randn(2, 3, 18, device=device).transpose(0, 1),
        "channels first": torch.randn(4, 18, 5, device=device).transpose(1, 2),
        "one row": torch.randn(18, device=device),
    }
    for name, x in views.items():
        x = x.detach().requires_grad_()
        y = K.forward(x, layer.alpha, layer.banks(), None, layer._id)
        gradient = torch.randn_like(y)
        wanted, x_gradient, _, _ = reference(layer, functions, x, gradient)
        y.backward(gradient.transpose(0, -1).contiguous().transpose(0, -1))
        torch.testing.assert_close(y, wanted, rtol=2e-5, atol=2e-5, msg=lambda text: f"{name}: {text}")
        torch.testing.assert_close(x.grad, x_gradient, rtol=2e-5, atol=2e-5, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("shape", [(0, 18), (3, 0, 18)])
def test_no_rows_are_no_problem(shape, device):
    layer, _ = growing_layer(device)
    before = layer.telemetry.clone()
    x = torch.randn(shape, device=device, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert layer.bank_0.grad.abs().sum() == 0
    assert torch.equal(layer.telemetry[:, 0], before[:, 0])


def test_second_derivatives_are_refused(device):
    layer, _ = growing_layer(device)
    x = torch.randn(5, 18, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


def test_forward_mode_is_refused(device):
    layer, _ = growing_layer(device)
    x = torch.randn(5, 18, device=device)
    with pytest.raises(NotImplementedError, match="reverse mode"):
        torch.func.jvp(layer, (x,), (x,))


def test_a_layer_can_run_twice_before_its_backward_pass_while_a_seed_trains(device):
    gradients = []
    for trains in (False, True):
        torch.manual_seed(0)
        layer, _ = growing_layer(device)
        assert kasmina.Lifecycle.TRAINING in layer.states()
        layer.train(trains)
        x = torch.randn(5, 18, device=device, requires_grad=True)
        layer(layer(x)).square().sum().backward()
        gradients.append([x.grad, *(bank.grad for bank in layer.banks())])
    torch.testing.assert_close(*gradients)


def test_an_optimiser_step_between_forward_and_backward_is_noticed(device):
    layer, _ = growing_layer(device)
    optimizer = kasmina.AdamW(layer.banks())
    x = torch.randn(5, 18, device=device)
    y = layer(x)
    layer(x).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_epochs_end_between_forward_and_backward_is_noticed(device):
    layer, _ = growing_layer(device)
    assert kasmina.Lifecycle.GRAFTING in layer.states()
    y = layer(torch.randn(5, 18, device=device))
    layer.end_epoch()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_deterministic_algorithms_give_the_same_bits(device):
    layer, _ = growing_layer(device)
    x = torch.randn(4096, 18, device=device)
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(3):
            layer.zero_grad()
            layer.eval()(x).square().sum().backward()
            gradients.append(layer.bank_0.grad.clone())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


def test_the_work_is_done_on_the_current_stream(device):
    if device.type != "cuda":
        pytest.skip("the CPU has no streams")
    layer, functions = growing_layer(device)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    # The default stream is busy for long; work that went there by mistake would not be done in time.
    torch.cuda._sleep(2_000_000_000)
    with torch.cuda.stream(side):
        x = torch.randn(64, 18, device=device, requires_grad=True)
        y = K.forward(x, layer.alpha, layer.banks(), layer.telemetry, layer._id)
        gradient = torch.ones_like(y)
        y.backward(gradient)
        side.synchronize()
        y, x_gradient = y.detach().cpu(), x.grad.cpu()
    torch.cuda.synchronize()
    wanted, wanted_gradient, _, _ = reference(layer, functions, x, gradient)
    torch.testing.assert_close(y, wanted.cpu(), rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(x_gradient, wanted_gradient.cpu(), rtol=2e-5, atol=2e-5)


def test_a_captured_graph_stays_right_when_seeds_change_state(device):
    if device.type != "cuda":
        pytest.skip("the CPU has no graphs to capture")
    layer, functions = growing_layer(device)
    x = torch.randn(64, 18, device=device)
    layer.eval()
    with torch.no_grad():
        layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)
    layer.end_epoch()  # alpha goes on
    graph.replay()
    wanted, *_ = reference(layer, functions, x, torch.zeros_like(x))
    torch.testing.assert_close(y, wanted, rtol=2e-5, atol=2e-5)


def test_a_non_finite_output_never_reaches_the_network(device):
    blueprint = kasmina.Blueprint.from_json(
        document({"w": (4,)}, [("s", "mul", "x w"), ("e", "exp", "s"), ("y", "add", "x e")])
    )
    layer = layer_of([(blueprint, 1)], device=device)
    bring(layer, 0, Lifecycle.GRAFTING)
    with torch.no_grad():
        layer.bank_0.fill_(1.0)
    x = torch.randn(6, 16, device=device)
    x[2, 1] = 1000.0  # too much for exp
    x.requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all() and layer.bank_0.grad.isfinite().all()
    assert torch.equal(y[2], x[2]) and torch.equal(x.grad[2], torch.ones_like(x.grad[2]))
    assert not torch.equal(y[1, :4], x[1, :4])
    assert layer.telemetry[0, 9] > 0, "the fallback is counted"


def test_an_output_that_half_precision_cannot_hold_counts_as_not_finite(device):
    layer = layer_of([("residual", 4)], device=device)
    bring(layer, 0, Lifecycle.GRAFTING, row_type=torch.float16)
    with torch.no_grad():
        layer.banks()[0][layer.array("slot")[0], :4] = 60000.0  # w of x + w s
    x = torch.full((3, layer.hidden), 60000.0, dtype=torch.float16, device=device)
    x[1] = 0
    x.requires_grad_()
    y = layer(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    assert torch.equal(y[0], x[0]) and torch.equal(y[2], x[2])
    assert y[1, 0] == 30000
    assert torch.equal(x.grad, gradient)
    used = layer.banks()[0].grad[layer.array("slot")[0]]
    assert torch.equal(used[:4], 0.5 * gradient[1, :4].float())
