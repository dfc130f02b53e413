"""What all Python tests share: the device they run on, and a kernel cache of their own."""

import os
import pathlib
import subprocess
import sys
import tempfile

# Before kasmina is imported: tests must neither find nor leave kernels in the user's cache.
os.environ["KASMINA_CACHE_DIR"] = tempfile.mkdtemp(prefix="kasmina-tests-")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

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
    # What layers are compared with computes in full float32, convolutions too.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


@pytest.fixture(scope="session")
def random_graphs(request):
    """Makes random graphs, as JSON: so many, other ones for every seed, by the generator that the Rust tests and the fuzzers
    use. Where `--graphs` names a file, they are the first ones in it; if no number is given, all."""
    path = request.config.getoption("--graphs")

    def make(count=None, seed=1):
        if path:
            lines = pathlib.Path(path).read_text().splitlines()[:count]
            if count and len(lines) < count:
                pytest.fail(f"{path} holds {len(lines)} graphs, of {count} that are needed")
            return lines
        command = ["cargo", "run", "--quiet", "--example", "random_blueprints", "--", "--seed", str(seed)]
        command += ["--count", str(count or 500)]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    return make


@pytest.fixture(autouse=True)
def fixed_random_seed():
    torch.manual_seed(0)
