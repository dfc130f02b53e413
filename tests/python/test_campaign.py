"""Short forms of the fault campaign and the long run (`make campaign`, `make long-run`)."""

import pathlib
import re
import subprocess
import sys

import pytest

CAMPAIGN = pathlib.Path(__file__).parents[1] / "campaign"


def output_of(script, *arguments):
    done = subprocess.run([sys.executable, str(CAMPAIGN / script), *arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def on_the_host(device):
    if device.type != "cpu":
        pytest.skip("the faults are the host's, and a card's memory is watched by hand (tests/gpu/README.md)")


def test_a_short_campaign_corrupts_no_run(tmp_path):
    told = output_of("run.py", "--runs", "21", "--seed", "7", "--output", str(tmp_path))
    assert told.endswith("runs: 21 corrupted: 0\n"), told
    for fault in ("nan", "compile", "disk", "flip", "kill", "storm", "memory"):
        assert re.search(rf"^ *[1-9]\d* {fault}$", told, re.MULTILINE), f"no {fault} in\n{told}"


def test_memory_stays_flat_over_three_hundred_epochs(tmp_path):
    told = output_of("long.py", "--epochs", "300", "--output", str(tmp_path))
    germinations, culls = re.search(r"germinations: (\d+) culls: (\d+)", told).groups()
    assert int(germinations) > 100 and int(culls) > 50, told
