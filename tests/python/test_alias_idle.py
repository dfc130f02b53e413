"""A layer in which no seed applies a blueprint gives its input back, if it may: what is seen is what a copying layer sees, autograd
knows nothing of it, and it computes again as soon as a seed does.
"""

import copy
import pickle

import pytest
import torch
from growing import Between, bring, layer_of, randomise
from torch.utils.checkpoint import checkpoint

import kasmina
from kasmina import Lifecycle

K = torch.ops.kasmina
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
NAMES = ["f32", "bf16", "f16", "f64"]
# What a backward pass adds to telemetry.
GRADIENT = 8


def idle_layer(device, *, dtype=torch.float32, alias_idle=True, channels="last"):
    """Two seeds dormant, one that trains in isolation, one taken out, and two channels of tail."""
    settings = {"training": {"loss_threshold": 1e30, "learning_rate": 0.01}}
    layer = layer_of([("bottleneck", 4)], hidden=34, seeds=4, device=device, dtype=dtype, settings=settings)
    bring(layer, 1, Lifecycle.TRAINING)
    bring(layer, 3, Lifecycle.ROLLED_BACK)
    torch.manual_seed(3)
    randomise(layer)
    layer.alias_idle, layer.channels = alias_idle, channels
    return layer


def pair(device, **options):
    """The same layer twice: one that aliases, one that copies."""
    one = idle_layer(device, **options)
    other = copy.deepcopy(one)
    other.alias_idle = False
    return one, other


def graft(layer):
    """Lets a dormant seed apply its blueprint."""
    training = layer.training
    bring(layer.train(), 0, Lifecycle.GRAFTING)
    layer.train(training)
    randomise(layer)


def assert_same(ours, theirs):
    """The same bits on the CPU; on a card, where another order of sums is another rounding, nearly."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert one.is_cuda or torch.equal(one, other)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Model(Between):
    """The layer behind a ReLU, whose backward pass reads what it gave."""

    def forward(self, x):
        return self.last(self.layer(torch.relu(self.first(x))))


def inputs(channels, device):
    return torch.randn(*((5, 6) if channels == "last" else (2, 6, 7, 9)), device=device)


def step(model, x, run=None):
    """The output and the gradients of x and of what is not the layer's."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    y = (model if run is None else run)(x)
    y.square().sum().backward()
    others = [*model.first.parameters(), *model.last.parameters()]
    return [y.detach(), x.grad, *(parameter.grad for parameter in others)]


@pytest.mark.parametrize("dtype", TYPES, ids=NAMES)
def test_the_output_is_the_input_and_telemetry_has_the_bits_of_a_layer_that_copies(dtype, device, deterministic):
    one, other = pair(device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    for shape in [(34,), (1, 34), (5, 7, 34), (700, 34)]:
        x = torch.randn(shape, device=device, dtype=dtype)
        x.view(-1)[0] = float("inf")
        before, version = x.clone(), x._version
        assert one(x) is x and not x.requires_grad
        assert torch.equal(x, before) and x._version == version
        assert other(x) is not x
    assert (one.telemetry[:, 0] == 8 * (1 + 1 + 5 * 7 + 700)).all(), "each element was counted once"
    # The seed in TRAINING was trained on the same rows.
    assert_same([one.telemetry, one.bank_0], [other.telemetry, other.bank_0])
    assert not torch.equal(one.bank_0, idle_layer(device, dtype=one.dtype).bank_0)


@pytest.mark.parametrize("take", ["t", "expand", "every other", "three strides", "no rows"])
def test_an_input_in_any_strides_is_seen_and_left_as_it_is(take, device):
    one, other = pair(device)
    base = torch.randn(34, 6, device=device)
    x = {
        "t": lambda: base.t(),
        "expand": lambda: base[:, :1].t().expand(3, 34),
        "every other": lambda: torch.randn(5, 68, device=device)[:, ::2],
        "three strides": lambda: torch.randn(4, 8, 12, 40, device=device)[:, :6, :10, :34],
        "no rows": lambda: base.t()[:0],
    }[take]()
    before = x.clone()
    assert one(x) is x and torch.equal(x, before)
    other(x)
    torch.testing.assert_close(one.telemetry, other.telemetry)


@pytest.mark.parametrize("channels", ["last", "first"])
def test_the_networks_gradients_are_those_with_a_layer_that_copies_and_banks_have_none(channels, device, deterministic):
    one, other = pair(device, channels=channels)
    model = Model(one, channels)
    x = inputs(channels, device)
    found = step(model, x)
    assert one.bank_0.grad is None
    model.layer = other
    wanted = step(model, x)
    assert other.bank_0.grad is not None
    assert_same(found, wanted)
    seen = [column for column in range(10) if column != GRADIENT]
    assert_same([one.telemetry[:, seen]], [other.telemetry[:, seen]])
    assert (one.telemetry[:, GRADIENT] == 0).all() and (other.telemetry[:, GRADIENT] > 0).all()


@pytest.mark.parametrize("channels", ["last", "first"])
def test_it_computes_once_a_seed_applies_a_blueprint_and_aliases_again_when_none_does(channels, device):
    layer = idle_layer(device, channels=channels)
    shape = (5, 34) if channels == "last" else (5, 34, 3)
    x = torch.randn(shape, device=device, requires_grad=True)
    assert layer(x) is x
    snapshot = layer.snapshot()
    graft(layer)
    y = layer(x)
    assert y is not x and not torch.equal(y, x)
    y.sum().backward()
    assert layer.bank_0.grad.abs().sum() > 0
    # By every way in which a seed ceases to apply one, and another layer's state arrives.
    active = layer.get_extra_state()
    layer.restore(snapshot)
    assert layer(x) is x
    layer.set_extra_state(active)
    assert layer(x) is not x
    layer.roll_back(0, "a test")
    assert layer(x) is x
    layer.set_extra_state(active)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other(x) is not x
    layer.double()
    assert layer(x.double()) is not x
    layer.float()
    layer.add_blueprint("residual", 1)
    assert layer(x) is not x
    layer.roll_back(0, "a test")
    layer.add_blueprint("residual", 1)
    assert layer(x) is x and copy.deepcopy(layer)(x) is x


def test_a_cull_at_the_end_of_an_epoch_makes_it_alias_again(device):
    layer = idle_layer(device)
    bring(layer, 0, Lifecycle.FINE_TUNING)
    x = torch.randn(5, 34, device=device)
    assert layer(x) is not x
    layer.cull(0)
    assert layer(x) is not x, "commands wait for the end of the epoch"
    layer.end_epoch()
    assert layer(x) is x


def test_in_evaluation_nothing_is_seen_or_trained(device):
    layer = idle_layer(device).eval()
    telemetry, bank = layer.telemetry.clone(), layer.bank_0.detach().clone()
    x = torch.randn(5, 34, device=device)
    assert layer(x) is x
    assert torch.equal(layer.telemetry, telemetry) and torch.equal(layer.bank_0, bank)
    with pytest.raises(RuntimeError, match="its last dimension must be 34"):
        layer(x[:, 1:])


@pytest.mark.parametrize("channels", ["last", "first"])
def test_beside_inplace_an_idle_layer_writes_nothing_and_an_active_one_its_input(channels, device):
    layer = idle_layer(device, channels=channels)
    layer.inplace = True
    shape = (5, 34) if channels == "last" else (5, 34, 3)
    # A leaf that wants gradients cannot be written.
    leaf = torch.randn(shape, device=device, requires_grad=True)
    assert layer(leaf) is leaf and leaf._version == 0 and leaf.grad_fn is None
    graft(layer)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        layer(leaf)
    x = leaf.detach().clone()
    wanted = copy.deepcopy(layer)
    wanted.inplace = False
    with torch.no_grad():
        y = wanted(x)
        assert layer(x) is x and torch.equal(x, y) and not torch.equal(x, leaf)


@pytest.mark.parametrize("training", [True, False])
def test_a_compiled_layer_computes_when_a_seed_begins_to_apply_a_blueprint(training, device):
    torch._dynamo.reset()
    model = Model(idle_layer(device)).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = inputs("last", device)
    torch.testing.assert_close(step(model, x, compiled), step(model, x), rtol=1e-5, atol=1e-5)
    idle = compiled(x)
    graft(model.layer)
    torch.testing.assert_close(step(model, x, compiled), step(model, x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(compiled(x), idle)
    model.layer.roll_back(0, "a test")
    torch.testing.assert_close(compiled(x), idle)


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_layer_does_not_forget_that_seeds_may_change(strict, device):
    layer = idle_layer(device).eval()
    x = torch.randn(5, 34, device=device)
    exported = torch.export.export(layer, (x,), strict=strict)
    assert any("kasmina.forward" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nor_does_a_traced_one(device):
    layer = idle_layer(device).eval()
    traced = torch.jit.trace(layer, (torch.randn(5, 34, device=device),))
    assert "kasmina::forward" in str(traced.inlined_graph)


def test_a_captured_graph_stays_right_when_a_seed_begins_to_apply_a_blueprint(device):
    if device.type != "cuda":
        pytest.skip("CUDA graphs are captured on a CUDA device")
    layer = idle_layer(device)
    layer.prepare()
    x = torch.randn(5, 34, device=device)
    layer(x)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = layer(x)
    assert y is not x
    layer.telemetry.zero_()
    graph.replay()
    assert torch.equal(y, x) and layer.telemetry[0, 0] == 8 * 5
    assert layer(x) is x, "only what is captured is an operator"


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_recomputed_is_not_seen_twice(reentrant, device, deterministic):
    one, _ = pair(device)
    plain = copy.deepcopy(one)
    model = Model(one)

    def checkpointed(x):
        return checkpoint(model, x, use_reentrant=reentrant)

    x = inputs("last", device)
    found = step(model, x, checkpointed)
    model.layer = plain
    wanted = step(model, x)
    assert_same([*found, one.telemetry, one.bank_0], [*wanted, plain.telemetry, plain.bank_0])
    assert one.telemetry[0, 0] > 0


def test_data_parallel_training_must_look_for_banks_without_gradients(device, tmp_path):
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        x = inputs("last", device)
        for looks in (True, False):
            layer = idle_layer(device)
            model = torch.nn.parallel.DistributedDataParallel(Model(layer), find_unused_parameters=looks)
            model(x).sum().backward()
            graft(layer)
            if looks:
                model(x).sum().backward()
                assert layer.bank_0.grad.abs().sum() > 0
            else:
                with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
                    model(x)
    finally:
        distributed.destroy_process_group()


def test_forward_mode_passes_an_idle_layer(device):
    layer = idle_layer(device)
    x, tangent = torch.randn(2, 5, 34, device=device)
    y, y_tangent = torch.func.jvp(layer, (x,), (tangent,))
    assert torch.equal(y, x) and torch.equal(y_tangent, tangent)


def test_the_operator_refuses_a_layer_with_an_active_seed_and_leaves_everything_as_it_is(device):
    layer = idle_layer(device)
    graft(layer)
    x = torch.randn(5, 34, device=device)
    before, telemetry = x.clone(), layer.telemetry.clone()
    with pytest.raises(RuntimeError, match=r"y is missing, but seed 0 applies blueprint 0 \(GRAFTING\)"):
        K.observe(x, layer.telemetry, layer._id)
    assert torch.equal(x, before) and torch.equal(layer.telemetry, telemetry)


@pytest.mark.parametrize("gradient", [False, True])
def test_opcheck_passes(gradient, device):
    layer = idle_layer(device)
    x = torch.randn(5, 34, device=device, requires_grad=gradient)
    results = torch.library.opcheck(K.observe.default, (x, torch.zeros_like(layer.telemetry), layer._id))
    assert set(results.values()) == {"SUCCESS"} and len(results) == 4


def test_the_choice_survives_copies_and_pickles_and_shows(device):
    layer = kasmina.Layer(8, 2, device=device, alias_idle=True)
    assert copy.deepcopy(layer).alias_idle and pickle.loads(pickle.dumps(layer)).alias_idle
    assert "alias_idle=True" in repr(layer) and "alias_idle" not in repr(kasmina.Layer(8, 2, device=device))
    # One that was pickled before there was a choice copies.
    state = layer.__getstate__()
    del state["alias_idle"], state["_applies"]
    old = kasmina.Layer.__new__(kasmina.Layer)
    old.__setstate__(state)
    x = torch.randn(3, 8, device=device)
    assert old.alias_idle is False and old(x) is not x
