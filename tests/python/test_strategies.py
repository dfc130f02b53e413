"""Grafting strategies end to end: what the kernels measured, against torch, through the recurrences in plain Python."""

import copy
import gc
import math
import pickle

import pytest
import torch
from growing import layer_of

import kasmina
from kasmina import Action, Command, Lifecycle, Strategy

SEED = 2
BASE_RATE = 1 / 30


def grafting(strategy, device, function=None):
    """A layer whose seed has just begun to graft; the other seeds are dormant."""
    layer = layer_of([("bottleneck", 2)], device=device, settings={"ramp_steps": 30})
    layer.set_strategy(function)
    layer.germinate(SEED, strategy=strategy)
    layer.end_epoch()
    layer.prepare()
    layer.start_training(SEED)
    layer.end_epoch()
    for _ in range(2):
        layer(torch.randn(4, 16, device=device))
        layer.end_epoch()
    layer.start_grafting(SEED)
    layer(torch.randn(4, 16, device=device))
    layer.end_epoch()
    assert layer.states()[SEED] == Lifecycle.GRAFTING and layer.alpha[SEED] == 0
    return layer


def observe(layer, level, gradient):
    """Two steps of an epoch; gives what torch says of the seed's chunk: root mean square and gradient norm."""
    chunk = slice(SEED * layer.chunk, (SEED + 1) * layer.chunk)
    seen, gradients = [], []
    for _ in range(2):
        x = (torch.randn(8, layer.hidden, device=layer.device) * level).requires_grad_()
        dy = torch.randn(8, layer.hidden, device=layer.device) * gradient
        layer(x).backward(dy)
        seen.append(x.detach()[:, chunk].double())
        gradients.append(dy[:, chunk].double())
    return torch.cat(seen).square().mean().sqrt().item(), torch.cat(gradients).norm().item()


def clamp(number):
    return min(max(number, 0.0), 1.0)


def expected(strategy, epochs):
    """alpha and what the strategy remembers after each epoch of (improvement, w, g): section 8 of the specification."""
    alpha, state = 0.0, None
    for improvement, w, g in epochs:
        if strategy == Strategy.PERFORMANCE_LINKED:
            if math.isfinite(improvement):
                state = 0.9 * (state or 0.0) + 0.1 * max(0.0, improvement)
                alpha += BASE_RATE * (1 + 10 * state)
        elif strategy == Strategy.DRIFT_CONTROLLED:
            ema = w if state is None else state
            alpha += BASE_RATE if abs(w - ema) / abs(ema) <= 0.12 else 0.0
            state = 0.9 * ema + 0.1 * w
        elif strategy == Strategy.GRAD_NORM_GATED:
            state = g if state is None else 0.9 * state + 0.1 * g
            alpha += BASE_RATE * clamp(1 - abs(g - state) / state) if 0.1 <= g <= 1.0 else 0.0
        else:
            alpha += 1 / 30
        alpha = min(alpha, 1.0)
        yield alpha, state or 0.0


@pytest.mark.parametrize("strategy", list(Strategy)[:4], ids=lambda strategy: strategy.name.lower())
def test_a_strategy_follows_its_recurrence_over_what_torch_measures(strategy, device):
    torch.manual_seed(3)
    layer = grafting(strategy, device)
    metrics = [0.5, 0.6, 0.55, float("nan"), 0.9, 0.9, 1.2, None, 1.3]
    epochs, found, last = [], [], float("nan")
    for epoch, metric in enumerate(metrics):
        level = 4.0 if epoch == 5 else 1.0
        # A chunk of 4 channels and 16 rows: 8 times the deviation, so 0.4, and once far above 1.
        measured = observe(layer, level, 0.5 if epoch == 3 else 0.05)
        summary = layer.end_epoch(metric=metric)
        given = float("nan") if metric is None else metric
        epochs.append((given - last, *measured))
        last = given if math.isfinite(given) else last
        alpha, memory = layer.alpha[SEED].item(), layer.array("strategy_memory")[SEED].item()
        rose = alpha > (found[-1][0] if found else 0.0)
        assert [held["seed"] for held in summary["held"]] == ([] if rose else [SEED])
        found.append((alpha, memory))
    wanted = list(expected(strategy, epochs))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-5, atol=1e-6)
    assert any(alpha == before for (alpha, _), (before, _) in zip(found[1:], found)) == (strategy != 0)


def test_a_strategy_is_chosen_at_germination(device):
    layer = layer_of([("bottleneck", 4)], device=device)
    layer.submit(*(Command(seed, Action.GERMINATE, strategy=strategy) for seed, strategy in enumerate([3, 1, 4, 2])))
    layer.end_epoch()
    assert layer.array("strategy").tolist() == [3, 1, 4, 2]
    layer.cancel(0)
    with pytest.raises(kasmina.Error, match="there is no grafting strategy 5"):
        layer.submit(Command(0, Action.RESET), Command(0, Action.GERMINATE, strategy=5))


def counting(seen, memory):
    """Counts its epochs, and rises the slower the longer it goes on."""
    assert seen.seed == SEED and seen.alpha < 1
    return 0.25 / (memory + 1), memory + 1


def test_a_strategy_in_python_goes_on_in_copies_and_after_a_checkpoint(device):
    layer = grafting(Strategy.USER, device, counting)
    layer.end_epoch()
    others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer_of([("bottleneck", 2)], device=device)]
    others[2].set_strategy(counting)
    others[2].load_state_dict(layer.state_dict())
    for found in [layer, *others]:
        assert found.end_epoch()["held"] == []
        assert found.alpha[SEED] == 0.375 and found.array("strategy_memory")[SEED] == 2


def test_a_strategy_in_python_that_raises_holds_and_is_reported_and_logged(device, caplog):
    def failing(seen, memory):
        raise ValueError(f"no idea about seed {seen.seed}")

    layer = grafting(Strategy.USER, device, counting)
    layer.end_epoch()
    for strategy in [failing, lambda seen, memory: None, lambda seen, memory: (float("nan"), 0.0), None]:
        layer.set_strategy(strategy)
        held = layer.end_epoch()["held"]
        assert [entry["seed"] for entry in held] == [SEED] and "strategy" in held[0]["reason"]
        assert layer.alpha[SEED] == 0.25 and layer.array("strategy_memory")[SEED] == 1
    assert "no idea about seed 2" in caplog.text


def test_a_strategy_in_python_may_replace_itself(device):
    layer = layer_of([("bottleneck", 4)], device=device)
    for seed in range(4):
        layer.germinate(seed, strategy=Strategy.USER)
    layer.end_epoch()
    layer.prepare()
    asked = []

    def first(seen, memory):
        asked.append(seen.seed)
        layer.set_strategy(lambda seen, memory: (0.5, 0.0))
        gc.collect()
        return 0.25, 0.0

    layer.set_strategy(first)
    del first
    for action in [Action.START_TRAINING, Action.START_GRAFTING]:
        layer.submit(*(Command(seed, action) for seed in range(4)))
        layer(torch.randn(4, 16, device=device))
        layer.end_epoch()
        for _ in range(2 if action == Action.START_TRAINING else 0):
            layer(torch.randn(4, 16, device=device))
            layer.end_epoch()
    layer.end_epoch()
    assert asked == [0, 1, 2, 3] and layer.alpha.tolist() == [0.25] * 4
    layer.end_epoch()
    assert len(asked) == 4 and layer.alpha.tolist() == [0.75] * 4


def test_what_a_strategy_in_python_is_told_may_be_kept(device):
    kept = []
    layer = grafting(Strategy.USER, device, lambda seen, memory: (kept.append(seen) or 0.5, 0.0))
    measured = []
    for metric in [1.0, 3.0]:
        measured.append(observe(layer, 1.0, 0.05))
        layer.end_epoch(metric=metric)
    assert [seen.alpha for seen in kept] == [0.0, 0.5]
    assert [seen.epochs_in_state for seen in kept] == [1, 2]
    assert math.isnan(kept[0].improvement) and kept[1].improvement == 2.0
    for seen, (level, gradient) in zip(kept, measured):
        assert seen.root_mean_square == pytest.approx(level) and seen.gradient_norm == pytest.approx(gradient)
