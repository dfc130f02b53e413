"""Circuit breakers and classes of errors, through the Python package."""

import time

import pytest
import torch
from growing import document, layer_of

import kasmina
from kasmina import ErrorClass, Lifecycle

# ln(x): not finite where x is below 0.
LOGARITHM = document({"s": []}, [("l", "log", "x"), ("y", "add", "l s")])


def failing(device, **breakers):
    """A layer with a seed in isolated training that fails in each epoch, at time 0."""
    settings = {"fallback_blocks_promotion": False, "breakers": breakers}
    layer = layer_of([(kasmina.Blueprint.from_json(LOGARITHM), 4), ("residual", 4)], device=device, settings=settings)
    layer.set_time(0)
    layer.germinate(0)
    layer.end_epoch()
    layer.prepare()
    layer.start_training(0)
    layer.end_epoch()
    assert layer.states()[0] == Lifecycle.TRAINING
    return layer


def epoch(layer):
    layer(torch.randn(8, layer.hidden, device=layer.device))
    return layer.end_epoch()


def test_a_blueprint_that_fails_three_times_is_kept_from_beginning_until_trials_may(device):
    layer = failing(device)
    for _ in range(2):
        epoch(layer)
        assert layer.report()["breakers"]["blueprints"][0]["state"] == "closed"
    epoch(layer)
    found = layer.report()["breakers"]["blueprints"][0]
    assert found["opened"] == 1 and found["last_class"] == "execute" and found["seconds_until_trials"] == 60
    layer.set_time(18)
    with pytest.raises(kasmina.TransitionRefused, match=r"blueprint 0 \('test'\) is open.*trials may begin in 42.0 s"):
        layer.germinate(1)
    layer.germinate(2, blueprint=1)
    epoch(layer)
    assert layer.states()[2] == Lifecycle.GERMINATED
    layer.set_time(60)
    assert layer.report()["breakers"]["blueprints"][0]["state"] == "half_open"
    layer.germinate(1)
    summary = epoch(layer)
    assert "circuit breaker" in summary["refused"][0]["reason"], "seed 0 failed once more before the epoch ended"


def test_breakers_can_be_set_to_never_open(device):
    layer = failing(device, failures=0)
    for _ in range(5):
        epoch(layer)
    layer.germinate(1)
    assert layer.report()["breakers"]["blueprints"][0]["failures"] == 5


def test_without_being_told_the_time_breakers_go_by_their_own_clock(device):
    settings = {"breakers": {"failures": 1, "open_seconds": 0.2}}
    layer = layer_of([(kasmina.Blueprint.from_json(LOGARITHM), 4)], device=device, settings=settings)
    layer.germinate(0)
    layer.end_epoch()
    layer.prepare()
    layer.start_training(0)
    layer.end_epoch()
    epoch(layer)
    with pytest.raises(kasmina.TransitionRefused, match="circuit breaker"):
        layer.germinate(1)
    layer.cancel(0)
    layer.end_epoch()
    time.sleep(0.25)
    layer.germinate(1)


def test_errors_say_what_kind_of_thing_failed(device):
    layer = layer_of([("residual", 1)], device=device)
    for call, error_class in [
        (lambda: kasmina.Blueprint.from_json("{"), ErrorClass.VALIDATION),
        (lambda: layer.roll_back(0), ErrorClass.REQUEST),
        (lambda: layer.set_extra_state(torch.zeros(9, dtype=torch.uint8)), ErrorClass.STORAGE),
        (lambda: kasmina.Layer(8, 2, device=torch.device("cuda", 99)), ErrorClass.DEVICE),
    ]:
        with pytest.raises(kasmina.Error) as raised:
            call()
        assert raised.value.error_class == error_class, raised.value
