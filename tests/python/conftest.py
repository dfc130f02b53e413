"""What all Python tests share: the device they run on, and a kernel cache of their own."""

import os
import pathlib
import sys
import tempfile

# Before kasmina is imported: tests must neither find nor leave kernels in the user's cache.
os.environ["KASMINA_CACHE_DIR"] = tempfile.mkdtemp(prefix="kasmina-tests-")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the layers live: cpu (default) or cuda")
    parser.addoption("--graphs", help="a file of random blueprints, one a line; without it, cargo makes some")


@pytest.fixture
def device(request):
    """The device that `--device` names."""
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda, but torch sees no CUDA device")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@pytest.fixture(autouse=True)
def fixed_random_seed():
    torch.manual_seed(0)
