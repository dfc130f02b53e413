"""What each state of the lifecycle means for the network, for training and for telemetry."""

import copy

import pytest
import torch
import torch.nn.functional as F
from growing import STATES, bring, layer_of, parameters_of, randomise

import kasmina
from kasmina import Action, Command, Error, Lifecycle

APPLIES = [
    Lifecycle.GRAFTING,
    Lifecycle.STABILIZATION,
    Lifecycle.EVALUATING,
    Lifecycle.FINE_TUNING,
    Lifecycle.FOSSILIZED,
]
TRAINS = [Lifecycle.GRAFTING, Lifecycle.FINE_TUNING]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name.lower())
def test_a_state_applies_its_blueprint_and_trains_as_the_table_says(state, device):
    layer = layer_of([("bottleneck", 2)], device=device)
    bring(layer, 2, state)
    randomise(layer)
    x = torch.randn(6, 16, device=device, requires_grad=True)
    y = layer(x)
    y.backward(torch.ones_like(y))
    others = [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15]
    assert torch.equal(y[:, others], x[:, others]), "the other seeds are dormant"
    assert torch.equal(x.grad[:, others], torch.ones_like(x)[:, others])
    assert torch.equal(y[:, 8:12], x[:, 8:12]) == (state not in APPLIES)
    assert bool(layer.bank_0.grad.abs().sum() > 0) == (state in TRAINS)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name.lower())
def test_telemetry_is_what_torch_computes_in_every_state(state, device):
    layer = layer_of([("bottleneck", 2)], hidden=18, device=device)
    bring(layer, 1, state)
    layer.end_epoch()
    x = torch.randn(40, 18, device=device, requires_grad=True)
    with torch.no_grad():
        x[3, 5] = 1e-8
        x[7, 6] = 0.0
    gradient = torch.randn(40, 18, device=device)
    for rows in range(0, 40, 20):
        layer(x[rows : rows + 20]).backward(gradient[rows : rows + 20])
    chunk = x.detach()[:, 4:8].double()
    wanted = [
        chunk.numel(),
        chunk.sum(),
        chunk.square().sum(),
        chunk.min(),
        chunk.max(),
        (chunk.abs() < 1e-6).sum(),
        (chunk[:, :-1] * chunk[:, 1:]).sum(),
        0,
        gradient[:, 4:8].double().square().sum(),
        0,
    ]
    wanted = torch.tensor([float(number) for number in wanted], dtype=torch.float64)
    torch.testing.assert_close(layer.array("telemetry")[1].cpu(), wanted, rtol=1e-6, atol=1e-6)

    layer.end_epoch()
    metrics = layer.report()["seeds"][1]["metrics"]
    assert metrics["count"] == chunk.numel()
    assert metrics["mean"] == pytest.approx(chunk.mean().item(), abs=1e-6)
    assert metrics["variance"] == pytest.approx(chunk.var(unbiased=False).item(), rel=1e-6)
    assert metrics["dead_ratio"] == pytest.approx(2 / chunk.numel())
    assert metrics["gradient_norm"] == pytest.approx(gradient[:, 4:8].norm().item(), rel=1e-6)
    assert layer.array("telemetry")[1, 0] == 0, "an epoch's end begins a new count"


def test_non_finite_input_is_counted_and_kept_out_of_the_sums(device):
    layer = layer_of([], device=device)
    x = torch.randn(5, 16, device=device)
    x[1, 2], x[2, 3], x[3, 0] = float("nan"), float("inf"), -float("inf")
    y = layer(x)
    assert torch.equal(y.view(torch.int32), x.view(torch.int32)), "a dormant seed passes the bits through"
    found = layer.telemetry[0].cpu()
    finite = x[:, :4][x[:, :4].isfinite()].double().cpu()
    assert found[7] == 3 and found[0] == 20
    torch.testing.assert_close(found[[1, 3, 4]], torch.stack([finite.sum(), finite.min(), finite.max()]))


def test_evaluation_observes_and_trains_nothing(device):
    layer = layer_of([("bottleneck", 1)], device=device, settings={"training": {"loss_threshold": 1e30}})
    bring(layer, 0, Lifecycle.TRAINING)
    randomise(layer)
    layer.eval()
    before = layer.telemetry.clone(), layer.bank_0.detach().clone()
    layer(torch.randn(5, 16, device=device)).sum()
    assert torch.equal(layer.telemetry, before[0]) and torch.equal(layer.bank_0, before[1])


class Network(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first = torch.nn.Linear(6, 16)
        self.layer = layer
        self.last = torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.last(torch.relu(self.layer(self.first(x))))


def test_isolated_training_leaves_output_and_host_gradients_bit_identical(device):
    settings = {"training": {"loss_threshold": 1e30, "learning_rate": 0.01}}
    layer = layer_of([("normalized_mlp", 2)], device=device, settings=settings)
    without = Network(layer).to(device)
    seeds_train = copy.deepcopy(without)
    bring(seeds_train.layer, 1, Lifecycle.TRAINING)
    bring(seeds_train.layer, 2, Lifecycle.TRAINING)
    randomise(seeds_train.layer)
    optimizers = [torch.optim.SGD(kasmina.split_parameters(model)[1], lr=0.1) for model in (without, seeds_train)]
    bank_before = seeds_train.layer.bank_0.detach().clone()
    for _ in range(10):
        x, target = torch.randn(32, 6, device=device), torch.randint(3, (32,), device=device)
        results = []
        for model, optimizer in zip((without, seeds_train), optimizers):
            optimizer.zero_grad()
            y = model(x)
            F.cross_entropy(y, target).backward()
            optimizer.step()
            results.append([y.detach(), *(p.grad for p in kasmina.split_parameters(model)[1])])
        assert all(torch.equal(a, b) for a, b in zip(*results))
    assert not torch.equal(seeds_train.layer.bank_0, bank_before), "the seeds did train"


def reconstruct(parameters, x, target):
    """The loss of isolated training, in torch: a normalized_mlp."""
    normal = F.layer_norm(x, x.shape[-1:], parameters["scale"], parameters["shift"])
    inner = F.gelu(F.linear(normal, parameters["w1"], parameters["b1"]))
    return F.mse_loss(x + F.linear(inner, parameters["w2"], parameters["b2"]), target)


@pytest.mark.parametrize("with_target", [False, True], ids=["itself", "target"])
def test_isolated_training_is_adamw_on_the_mean_squared_error(with_target, device):
    blueprint = kasmina.Blueprint.library("normalized_mlp", 4)
    settings = {"training": {"loss_threshold": 1e30, "learning_rate": 0.01, "weight_decay": 0.1}}
    layer = layer_of([(blueprint, 1)], device=device, dtype=torch.float64, settings=settings)
    bring(layer, 1, Lifecycle.TRAINING)
    randomise(layer)
    slot = layer.bank_0[0].detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([slot], lr=0.01, weight_decay=0.1)
    losses = []
    for _ in range(5):
        x = torch.randn(32, 16, device=device, dtype=torch.float64)
        target = torch.randn_like(x) if with_target else None
        layer(x, target)
        loss = reconstruct(parameters_of(blueprint, slot), x[:, 4:8], (x if target is None else target)[:, 4:8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(layer.bank_0[0], slot, rtol=1e-9, atol=1e-9)
    layer.end_epoch()
    assert layer.report()["seeds"][1]["metrics"]["loss"] == pytest.approx(sum(losses) / 5)


def test_channels_left_over_pass_through(device):
    layer = layer_of([("bottleneck", 3)], hidden=19, seeds=3, device=device)
    for seed in range(3):
        bring(layer, seed, Lifecycle.FOSSILIZED)
    randomise(layer)
    x = torch.randn(5, 19, device=device, requires_grad=True)
    y = layer(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    assert layer.chunk == 6
    assert torch.equal(y[:, 18:], x[:, 18:]) and torch.equal(x.grad[:, 18:], gradient[:, 18:])
    assert not (y[:, :18] == x[:, :18]).any(), "every seed changes its chunk"


def test_a_graft_ramps_up_and_stops_at_one(device):
    layer = layer_of([("bottleneck", 1)], device=device, settings={"ramp_steps": 4})
    layer.germinate(0)
    layer.end_epoch()
    layer.prepare()
    layer.start_training(0)
    layer.end_epoch()
    for _ in range(2):
        layer(torch.randn(4, 16, device=device))
        layer.end_epoch()
    layer.start_grafting(0)
    layer(torch.randn(4, 16, device=device))
    layer.end_epoch()
    layer.end_epoch()
    alphas = []
    for _ in range(5):
        alphas.append(layer.alpha[0].item())
        layer.end_epoch()
    assert alphas == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_rollback_holds_from_the_next_forward_on(device):
    layer = layer_of([("bottleneck", 1)], device=device)
    bring(layer, 0, Lifecycle.GRAFTING)
    randomise(layer)
    x = torch.randn(5, 16, device=device)
    assert not torch.equal(layer(x), x)
    layer.roll_back(0, "loss spiked")
    assert torch.equal(layer(x), x)
    assert layer.states()[0] == Lifecycle.ROLLED_BACK


def test_a_batch_of_commands_is_taken_whole_or_refused_whole(device):
    layer = layer_of([("bottleneck", 4)], device=device)
    with pytest.raises(Error, match="(?i)seed 2") as refusal:
        layer.submit(Command(0, Action.GERMINATE), Command(2, Action.FOSSILISE))
    assert refusal.value.status == 5003
    assert layer.end_epoch()["applied"] == []
    layer.submit(Command(0, Action.GERMINATE), Command(2, Action.GERMINATE, reason="plateau"))
    applied = layer.end_epoch()["applied"]
    assert [(record["seed"], record["to"], record["reason"]) for record in applied] == [
        (0, "GERMINATED", ""),
        (2, "GERMINATED", "plateau"),
    ]


def test_an_evaluated_seed_that_did_harm_is_culled_and_the_summary_says_what_for(device):
    gates = {"statistics_change": 1e30}
    layer = layer_of([("bottleneck", 2)], device=device, settings={"gates": gates})
    for seed in range(2):
        bring(layer, seed, Lifecycle.EVALUATING)
    layer.fine_tune(0, validation_delta=-0.06, stability=1.0, reason="ten epochs are over")
    layer.fine_tune(1, validation_delta=0.01, stability=1.0)
    found = [(record["action"], record["to"], record["culled_for"]) for record in layer.end_epoch()["applied"]]
    why = "the validation delta -0.06 is below -0.05 (gates.cull_validation_delta)"
    assert found == [("fine_tune", "CULLED", why), ("fine_tune", "FINE_TUNING", None)]


def test_a_seed_beyond_the_bytes_that_seeds_may_hold_is_refused_with_what_is_left(device):
    attention = kasmina.Blueprint.library("attention", 4)
    # A parameter, its gradient and two moments for each of four channels, and six bytes for the slot.
    of_a_seed = 4 * 4 * 4 + 6
    layer = layer_of([(attention, 4)], device=device, settings={"max_seed_bytes": 2 * of_a_seed + 1})
    layer.submit(Command(0, Action.GERMINATE), Command(1, Action.GERMINATE))
    with pytest.raises(Error, match=f"holds {of_a_seed} bytes, and of {2 * of_a_seed + 1} bytes 1 are left"):
        layer.germinate(2)
    layer.end_epoch()
    assert layer.report()["totals"]["seed_bytes"] == 2 * of_a_seed


def test_gates_are_closed_by_default(device):
    layer = kasmina.Layer(16, 4, [("bottleneck", 1)], device=device)
    layer.germinate(0)
    layer.end_epoch()
    layer.prepare()
    layer.start_training(0)
    layer.end_epoch()
    with pytest.raises(kasmina.TransitionRefused, match="isolated training"):
        layer.start_grafting(0)


def test_the_report_lists_the_kernels_that_run_and_nothing_had_to_step_down(device):
    layer = layer_of([("bottleneck", 2), ("residual", 2)], device=device)
    bring(layer, 2, Lifecycle.GRAFTING)
    layer(torch.randn(3, 16, device=device))
    layer.end_epoch()
    kernels = layer.report()["kernels"]
    forward = [kernel for kernel in kernels if kernel["runs"] and kernel["pass"] == "forward"]
    wanted = {"data_type": "f32", "blueprints": [0], "state": "ready", "schedule": "best", "reason": None}
    assert [{name: kernel[name] for name in wanted} for kernel in forward] == [wanted]
    statistics = kasmina.statistics()
    assert (statistics["stepped_down"], statistics["given_up"]) == (0, 0)
