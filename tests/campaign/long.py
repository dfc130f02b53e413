"""A long run: hundreds of germinations and culls, and memory that stays where it was.

    python tests/campaign/long.py [--epochs 2000] [--device cpu] [--output build/long-run]

The layer's seeds germinate, train, graft and are culled or rolled back, with snapshots, checkpoints and
reports in between. After a warm-up, the host's resident memory (and the device's, where there is one) may grow by no more than
a tolerance over the rest of the run. Ends with a line `epochs: N germinations: N culls: N host: +N KiB device: +N KiB`.
"""

import argparse
import gc
import json
import os
import pathlib
import random
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "python")]
os.environ.setdefault("KASMINA_CACHE_DIR", tempfile.mkdtemp(prefix="kasmina-long-run-"))

import torch
from growing import QUICK, lead_on

import kasmina
from kasmina import Action, Command, Lifecycle, Strategy

SEEDS, CHUNK = 12, 8
# The part of the run in which caches fill and allocators settle.
WARM_UP = 0.4
# What fragments of an allocator may add to it; one small leak in each epoch is more.
TOLERANCE = 1 << 20


def host_bytes():
    """Resident memory of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def device_bytes(device):
    """Memory in use on the device, by everybody: the library's own is not in torch's count."""
    if device.type == "cpu":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return total - free


class Run:
    def __init__(self, device):
        torch.manual_seed(0)
        self.device, self.dice = device, random.Random(0)
        banks = [("bottleneck", SEEDS), ("mlp", SEEDS), ("residual", SEEDS), ("normalized_mlp", SEEDS)]
        self.layer = kasmina.Layer(SEEDS * CHUNK, SEEDS, banks, device=device, settings=QUICK)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, SEEDS * CHUNK), self.layer, torch.nn.Linear(SEEDS * CHUNK, 3))
        self.model.to(device)
        seeds, others = kasmina.split_parameters(self.model)
        self.optimizers = [kasmina.AdamW(seeds, lr=1e-3), torch.optim.SGD(others, lr=1e-3)]
        self.snapshot = kasmina.TrainingSnapshot(self.model, *self.optimizers)
        self.germinations = self.culls = 0

    def epoch(self, number):
        x = torch.randn(16, 6, device=self.device)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (self.model(x) - x[:, :3]).square().mean().backward()
        for optimizer in self.optimizers:
            optimizer.step()
        for seed, state in enumerate(self.layer.states()):
            command = self.command(seed, state)
            try:
                self.layer.submit(*command)
            except kasmina.Error:
                continue
        if number % 10 == 3:
            self.snapshot.take()
        if number % 10 == 7:
            self.snapshot.restore("a long run")
        if number % 50 == 9:
            self.layer.set_extra_state(self.layer.get_extra_state())
        for seed, state in enumerate(self.layer.states()):
            if 2 <= state <= 6 and self.dice.random() < 0.02:
                self.layer.roll_back(seed, "a long run")
        self.layer.wait_for_kernels()
        for record in self.layer.end_epoch(metric=0.0)["applied"]:
            self.germinations += record["action"] == "germinate"
            self.culls += record["action"] == "cull"
        self.layer.report()

    def command(self, seed, state):
        if state == Lifecycle.DORMANT and self.dice.random() < 0.5:
            return [Command(seed, Action.GERMINATE, blueprint=self.dice.randrange(4), strategy=Strategy(self.dice.randrange(4)))]
        # What came that far goes too, for others to come after it.
        if state == Lifecycle.FINE_TUNING or (state in (2, 5) and self.dice.random() < 0.1):
            return [Command(seed, Action.CULL)]
        command = lead_on(seed, state)
        return [command] if command else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", default=str(ROOT / "build" / "long-run"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    run, samples = Run(device), []
    for number in range(arguments.epochs):
        run.epoch(number)
        if number % max(1, arguments.epochs // 50) == 0 or number + 1 == arguments.epochs:
            samples.append((number, host_bytes(), device_bytes(device)))
    settled = [sample for sample in samples if sample[0] >= WARM_UP * arguments.epochs]
    # The lowest of a few, so that a moment's garbage is no leak.
    first, last = settled[:5], settled[-5:]
    host, on_device = (min(s[which] for s in last) - min(s[which] for s in first) for which in (1, 2))
    os.makedirs(arguments.output, exist_ok=True)
    with open(os.path.join(arguments.output, "memory.json"), "w") as file:
        json.dump(samples, file)
    print(
        f"epochs: {arguments.epochs} germinations: {run.germinations} culls: {run.culls} "
        f"host: {host // 1024:+d} KiB device: {on_device // 1024:+d} KiB"
    )
    if host > TOLERANCE or on_device > TOLERANCE:
        sys.exit(f"memory grew by more than {TOLERANCE // 1024} KiB after the first {WARM_UP:.0%} of the run")


if __name__ == "__main__":
    main()
