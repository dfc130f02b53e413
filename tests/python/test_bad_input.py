"""Bad input gives an error that names the value and the remedy, and leaves everything as it was."""

import json
import logging
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from growing import document, layer_of

import kasmina
from kasmina import Error

GOOD = document({"w": (4,)}, [("y", "mul", "x w")])
MALFORMED = {
    "not JSON": (b"\xff\xfe{", "JSON"),
    "nothing": (b"", "JSON"),
    "an unknown operator": ({**GOOD, "nodes": [{"name": "y", "op": "teleport", "inputs": ["x"]}]}, "teleport"),
    "an unknown input": ({**GOOD, "nodes": [{"name": "y", "op": "relu", "inputs": ["z"]}]}, "z"),
    "an unknown output": ({**GOOD, "output": "z"}, "z"),
    "a wrong shape": ({**GOOD, "parameters": [{"name": "w", "shape": [5]}]}, "y"),
    "an unknown attribute": (
        {**GOOD, "nodes": [{"name": "y", "op": "relu", "inputs": ["x"], "attributes": {"knob": 1}}]},
        "knob",
    ),
    "a newer version": ({**GOOD, "ir_version": 99}, "99"),
    "too large": ({**GOOD, "parameters": [{"name": "w", "shape": [1 << 40]}]}, ""),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_blueprint_is_an_error_that_says_where(name):
    data, hint = MALFORMED[name]
    with pytest.raises(Error) as error:
        kasmina.Blueprint.from_json(data)
    assert hint in str(error.value)
    assert error.value.status in (2001, 2002, 2003, 1005)


def test_a_blueprint_survives_being_written_and_read():
    blueprint = kasmina.Blueprint.from_json(GOOD)
    again = kasmina.Blueprint.from_json(blueprint.to_json())
    renamed = kasmina.Blueprint.from_json(json.dumps(GOOD).replace('"w"', '"v"').replace("test", "other"))
    assert blueprint == again == renamed and len({blueprint, again, renamed}) == 1
    assert blueprint != kasmina.Blueprint.from_json(document({"w": (4,)}, [("y", "add", "x w")]))
    assert (blueprint.chunk, blueprint.parameter_count) == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 4, "seeds": 5}, "5"),
        ({"hidden": 4, "seeds": 0}, "0"),
        ({"hidden": 16, "seeds": 4, "blueprints": [("no such thing", 1)]}, "no such thing"),
        ({"hidden": 16, "seeds": 4, "blueprints": [("mlp", 0)]}, "0"),
        ({"hidden": 16, "seeds": 4, "settings": {"ramp_step": 3}}, "ramp_step"),
        ({"hidden": 16, "seeds": 4, "settings": {"ramp_steps": 0}}, "ramp_steps"),
    ],
)
def test_a_layer_that_cannot_be_is_an_error(arguments, message, device):
    with pytest.raises(Error, match=message):
        kasmina.Layer(**arguments, device=device)


def test_a_blueprint_of_another_width_is_an_error(device):
    layer = layer_of([], device=device)
    with pytest.raises(Error, match="8"):
        layer.add_blueprint(kasmina.Blueprint.library("mlp", 8), 1)


def test_parameters_of_other_types_are_an_error(device):
    with pytest.raises(TypeError, match="float16"):
        kasmina.Layer(16, 4, device=device, dtype=torch.float16)
    layer = layer_of([("mlp", 1)], device=device)
    with pytest.raises(TypeError, match="meta"):
        layer.to("meta")
    with pytest.raises(TypeError, match="meta"):
        kasmina.Layer(16, 4, device="meta")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.randn(3, 15), "15"),
        (lambda: torch.randn(()), "scalar"),
        (lambda: torch.randn(3, 16, dtype=torch.float64), "f64"),
        (lambda: torch.zeros(3, 16, dtype=torch.int64), "i64"),
        (lambda: torch.zeros(3, 16, dtype=torch.complex64), "element type"),
    ],
    ids=["width", "scalar", "f64", "i64", "complex"],
)
def test_rows_that_do_not_fit_are_an_error(make, message, device):
    layer = layer_of([("mlp", 1)], device=device)
    with pytest.raises(RuntimeError, match=message):
        layer(make().to(device))
    assert layer.telemetry[0, 0] == 0


def test_rows_on_another_device_are_an_error(device):
    if device.type == "cpu":
        pytest.skip("there is one device only")
    layer = layer_of([("mlp", 1)], device=device)
    with pytest.raises(RuntimeError, match="(?i)cpu"):
        layer(torch.randn(3, 16))


def test_a_missing_device_is_an_error_and_the_cpu_still_works():
    missing = torch.device("cuda", 99 if torch.cuda.is_available() else 0)
    with pytest.raises(Error) as error:
        kasmina.Layer(16, 4, device=missing)
    assert error.value.status == 4001
    x = torch.randn(3, 16)
    assert torch.equal(kasmina.Layer(16, 4, device="cpu")(x), x)


def test_a_missing_compiler_is_an_error_that_says_where_it_looked(device):
    if device.type == "cpu":
        pytest.skip("the CPU needs no NVRTC; a Rust test covers the search itself")
    code = """
import torch, kasmina
x = torch.randn(3, 16)
assert torch.equal(kasmina.Layer(16, 4, device="cpu")(x), x)
kasmina.Layer(16, 4, device="cuda")(x.cuda())
"""
    done = run(code, KASMINA_NVRTC="/nowhere/libnvrtc.so.13")
    assert done.returncode == 1
    assert "NVRTC was not found" in done.stderr and "Looked in: KASMINA_NVRTC=/nowhere/libnvrtc.so.13" in done.stderr


def test_a_foreign_handle_is_an_error(device):
    layer = layer_of([], device=device)
    x = torch.randn(3, 16, device=device)
    for handle in (0, 1, -1, layer._id + 1, 1 << 62):
        with pytest.raises(RuntimeError, match="kasmina"):
            torch.ops.kasmina.forward(x, layer.alpha, [], None, handle)


def test_wrong_tensors_in_an_operator_are_an_error(device):
    layer = layer_of([("mlp", 1)], device=device)
    x, banks = torch.randn(3, 16, device=device), layer.banks()
    for alpha, given, telemetry in [
        (layer.alpha[:2], banks, None),
        (layer.alpha.double(), banks, None),
        (layer.alpha, [], None),
        (layer.alpha, [banks[0][:, :1]], None),
        (layer.alpha, [*banks, *banks], None),
        (layer.alpha, banks, layer.telemetry[:, :3]),
    ]:
        with pytest.raises(RuntimeError, match="kasmina"):
            torch.ops.kasmina.forward(x, alpha, given, telemetry, layer._id)


def test_a_full_bank_is_an_error(device):
    layer = layer_of([("mlp", 1)], device=device)
    layer.germinate(0)
    layer.end_epoch()
    with pytest.raises(Error) as error:
        layer.germinate(1)
    assert error.value.status == 5004


def test_seeds_and_blueprints_that_do_not_exist_are_an_error(device):
    layer = layer_of([("mlp", 1)], device=device)
    with pytest.raises(Error, match="9"):
        layer.germinate(9)
    with pytest.raises(Error, match="7"):
        layer.germinate(0, blueprint=7)
    with pytest.raises(Error):
        layer.roll_back(0)


def run(code, **environment):
    """Runs Python code in a new process."""
    paths = [pathlib.Path(kasmina.__file__).parents[1], pathlib.Path(__file__).parent]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_a_cache_that_cannot_be_written_is_said_once_and_works(tmp_path, device):
    # A file where the folder should be: not even root can write there.
    (tmp_path / "file").write_text("")
    code = f"""
import torch
from growing import bring, layer_of
from kasmina import Lifecycle
for width in (16, 20):
    layer = layer_of([("bottleneck", 1)], hidden=width, device="{device}")
    bring(layer, 0, Lifecycle.GRAFTING)
    layer(torch.randn(3, width, device="{device}")).sum().backward()
print("works")
"""
    done = run(code, KASMINA_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert done.stdout == "works\n", done.stderr
    assert done.stderr.count(str(tmp_path / "file")) == 1, done.stderr


def test_a_kernel_whose_compile_took_too_long_is_there_when_it_is_asked_for_again(tmp_path, device):
    code = f"""
import time
import torch
from growing import layer_of
layer, x = layer_of([("bottleneck", 1)], device="{device}"), torch.randn(3, 16, device="{device}")
refused, start = 0, time.monotonic()
while time.monotonic() - start < 60:
    try:
        layer(x)
        break
    except RuntimeError as error:
        assert "takes longer than 0.000001 s to compile" in str(error), error
        refused += 1
        time.sleep(0.01)
layer(x)
print("refused, then there" if refused else "no compile takes no time")
"""
    done = run(code, KASMINA_CACHE_DIR=str(tmp_path), KASMINA_COMPILE_SECONDS="0.000001")
    assert done.stdout == "refused, then there\n", done.stderr


def test_libraries_that_are_not_built_are_named_with_the_remedy(tmp_path):
    done = run("import kasmina", KASMINA_LIBRARY_DIRECTORY=str(tmp_path))
    assert "make build" in done.stderr and str(tmp_path) in done.stderr


def test_an_old_torch_is_refused_in_a_sentence():
    done = run("import torch; torch.__version__ = '2.9.1'; import kasmina")
    assert "kasmina needs torch 2.11 or later, and this is torch 2.9.1." in done.stderr


def test_the_log_goes_to_pythons_logging():
    assert logging.getLogger("kasmina").getEffectiveLevel() <= logging.WARNING
