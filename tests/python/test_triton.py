"""Kernels printed as Triton source: the real compiler takes them, and they compute what plain torch does.

Compiling needs no GPU. Computing is done by Triton's interpreter, or on the GPU with `--device cuda`.
"""

import concurrent.futures
import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import triton_kernels
from test_torch import LIBRARY
from triton_kernels import PASSES, PROGRAM, ROOT

pytest.importorskip("triton")

# What an A100 and an H100 are.
CAPABILITIES = (80, 90)
WORKERS = min(os.cpu_count() or 1, 16)
# Rows of all types, in turn; what is printed differs little.
TYPES = ["f32", "bf16", "f16", "f64"]


def requests(classes):
    """A kernel for each pass of each class: its blueprints, by name or as JSON, and the width of their chunks."""
    kernels = [(blueprints, chunk, kind) for blueprints, chunk in classes for kind in PASSES]
    return [
        {"blueprints": blueprints, "chunk": chunk, "pass": kind, "dtype": TYPES[(number + number // 3) % len(TYPES)]}
        for number, (blueprints, chunk, kind) in enumerate(kernels)
    ]


def library(*chunks):
    return [([f"library:{name}"], chunk) for name in LIBRARY for chunk in chunks]


def random_blueprints(count, seed):
    """Random graphs, by the generator that the Rust tests use."""
    command = ["cargo", "run", "--quiet", "--example", "random_blueprints", "--", "--count", count, "--seed", seed]
    lines = subprocess.run([str(word) for word in command], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [([line], json.loads(line)["chunk"]) for line in lines.splitlines()]


def together(classes, most=8):
    """The same blueprints in fewer classes: those of one width share a kernel, as they do in a layer."""
    shared = []
    for blueprints, chunk in classes:
        fitting = [one for one in shared if one[1] == chunk and len(one[0]) < most]
        if fitting:
            fitting[0][0].extend(blueprints)
        else:
            shared.append((list(blueprints), chunk))
    return shared


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Triton must neither find nor leave kernels in the user's cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def refused(kernels, capabilities, telemetry):
    """What Triton's compiler does not take, compiled in processes of their own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        results = pool.map(triton_kernels.compile_for, kernels, capabilities, [telemetry] * len(kernels))
        return [reason for reason in results if reason]


def wrong(kernels, device):
    """In what launched kernels differ from plain torch."""
    workers = 1 if device.type == "cuda" else min(WORKERS, len(kernels))
    environment = dict(os.environ, TRITON_INTERPRET="0" if device.type == "cuda" else "1", PYTHONWARNINGS="ignore")
    processes = []
    for worker in range(workers):
        command = [sys.executable, triton_kernels.__file__, "--device", device.type]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        processes[-1].stdin.write(json.dumps(kernels[worker::workers]))
        processes[-1].stdin.close()
    said = [process.stdout.read() for process in processes]
    codes = [process.wait() for process in processes]
    assert not any(codes), said
    return [line for text in said for line in text.splitlines()]


def test_every_library_blueprint_compiles_in_every_pass():
    kernels = requests(library(24))
    assert refused(kernels, [CAPABILITIES] * len(kernels), telemetry=True) == []


def test_a_hundred_random_graphs_compile():
    classes = together(random_blueprints(100, 31))
    assert sum(len(blueprints) for blueprints, _ in classes) == 100
    # The passes take turns, and so do the architectures: all of them for every graph take many minutes.
    every = requests(classes)
    passes = len(every) // len(classes)
    kernels = [every[number * passes + number % passes] for number in range(len(classes))]
    capabilities = [CAPABILITIES[number % 2 : number % 2 + 1] for number in range(len(kernels))]
    assert refused(kernels, capabilities, telemetry=False) == []


def test_kernels_of_library_blueprints_compute_what_plain_torch_does(device):
    # 300 channels do not fit a tile.
    kernels = requests(library(24)) + requests([(["library:attention"], 300), (["library:bottleneck,width=3"], 300)])
    assert wrong(kernels, device) == []


def test_kernels_of_random_graphs_compute_what_plain_torch_does(device):
    assert wrong(requests(random_blueprints(40, 32)), device) == []


def test_what_is_printed_is_the_same_each_time_and_says_what_it_is():
    request = {"blueprints": ["library:mlp"], "chunk": 8, "pass": "backward", "dtype": "bf16"}
    text = triton_kernels.source(request)
    assert text == triton_kernels.source(request)
    assert text.startswith('"""Generated by kasmina: backward kernel, bf16 rows, chunks of 8 channels, 1 program')


def test_a_launch_that_does_not_fit_is_refused():
    check = """
import torch, triton_kernels
printed = triton_kernels.module(triton_kernels.source(
    {"blueprints": ["library:mlp"], "chunk": 8, "pass": "forward", "dtype": "f32"}))
x, states = torch.zeros(4, 16), torch.zeros(3, dtype=torch.int8)
for rows, banks in ((x, [None]), (torch.zeros(4, 24), [])):
    try:
        printed.launch(rows, torch.zeros(4, 24), states, states, states, states, states, banks)
    except ValueError as error:
        print(error)
"""
    environment = dict(os.environ, TRITON_INTERPRET="1", PYTHONPATH=os.path.dirname(triton_kernels.__file__))
    printed = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert "3 seeds of 8 channels" in printed.stdout
    assert "there are 0 banks; the kernel has 1 programs" in printed.stdout


def test_the_program_is_built():
    assert PROGRAM.exists(), "run `make build`"
