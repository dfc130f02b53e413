"""A long run: hundreds of germinations and culls, and memory that stays where it was.

    python tests/campaign/long.py [--epochs 2000] [--seconds 240] [--device cpu] [--output build/long-run]

The layer's seeds germinate, train, graft and are culled or rolled back, with snapshots, checkpoints and
reports in between. After a warm-up, the host's resident memory (and the device's, where there is one) may grow by no more than
a tolerance over the rest of the run. Ends with a line `epochs: N germinations: N culls: N host: +N KiB device: +N KiB`. The exit
status is 0 if memory was flat, and 1 if it was not or if there were too few epochs to tell.
"""

import argparse
import gc
import itertools
import json
import os
import pathlib
import random
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "python")]
os.environ.setdefault("KASMINA_CACHE_DIR", tempfile.mkdtemp(prefix="kasmina-long-run-"))
os.environ.setdefault("KASMINA_COMPILE_THREADS", str(os.cpu_count()))

import torch
from growing import QUICK, lead_on

import kasmina
from kasmina import Action, Command, Lifecycle, Strategy

SEEDS, CHUNK = 12, 8
BLUEPRINTS = ("bottleneck", "mlp", "residual", "normalized_mlp")
# Epochs from one look at the memory to the next, and how many looks after the warm-up tell anything.
LOOK, FEWEST_LOOKS = 10, 15
# The part of the run in which caches fill and allocators settle.
WARM_UP = 0.4
# What fragments of an allocator may add to it; one small leak in each epoch is more.
TOLERANCE = 1 << 20
# Seconds from one line about the progress to the next.
PROGRESS = 5


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


def new_layer(device):
    banks = [(name, SEEDS) for name in BLUEPRINTS]
    return kasmina.Layer(SEEDS * CHUNK, SEEDS, banks, device=device, settings=QUICK)


def compile_everything(device):
    """Compiles what the run may need, side by side: in the run, each set of live blueprints would be waited for on its own."""
    layers = []
    for count in range(1, len(BLUEPRINTS) + 1):
        for blueprints in itertools.combinations(range(len(BLUEPRINTS)), count):
            layer = new_layer(device)
            layer(torch.randn(1, SEEDS * CHUNK, device=device, requires_grad=True)).sum().backward()
            layer.submit(*(Command(seed, Action.GERMINATE, blueprint=which) for seed, which in enumerate(blueprints)))
            layer.end_epoch()
            layers.append(layer)
    print(f"compiling for {len(layers)} sets of blueprints", flush=True)
    for layer in layers:
        layer.wait_for_kernels()


class Run:
    def __init__(self, device):
        torch.manual_seed(0)
        self.device, self.dice = device, random.Random(0)
        self.layer = new_layer(device)
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


def growth(samples):
    """By how much host and device grew from the first looks after the warm-up to the last; the lowest of a few of each, so that a
    moment's garbage is no leak. None if there were too few looks.
    """
    settled = [sample for sample in samples if sample[0] >= WARM_UP * samples[-1][0]]
    if len(settled) < FEWEST_LOOKS:
        return None
    first, last = settled[:5], settled[-5:]
    return [min(sample[which] for sample in last) - min(sample[which] for sample in first) for which in (1, 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop when so many have passed, with fewer epochs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", default=str(ROOT / "build" / "long-run"))
    arguments = parser.parse_args()
    begin = told = time.monotonic()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    compile_everything(device)
    compiled = kasmina.statistics()["compiled"]
    print(f"{compiled} kernels compiled after {time.monotonic() - begin:.0f} s", flush=True)
    run, samples, number = Run(device), [], 0
    # What was imported is no garbage, and looking through it in each collection takes long.
    gc.freeze()
    while number < arguments.epochs and time.monotonic() - begin < arguments.seconds:
        run.epoch(number)
        number += 1
        if number % LOOK == 0:
            samples.append((number, host_bytes(), device_bytes(device)))
        if time.monotonic() - told > PROGRESS and samples:
            told = time.monotonic()
            _, host, on_device = samples[-1]
            memory = f"host {host >> 10} KiB, device {on_device >> 10} KiB"
            print(f"{told - begin:.0f} s: {number} epochs, {run.germinations} germinations, {memory}", flush=True)
    os.makedirs(arguments.output, exist_ok=True)
    with open(os.path.join(arguments.output, "memory.json"), "w") as file:
        json.dump(samples, file)
    if number < arguments.epochs:
        print(f"the {arguments.seconds:.0f} seconds were over after {number} of {arguments.epochs} epochs")
    grown = growth(samples) if samples else None
    if grown is None:
        sys.exit(f"{number} epochs are too few to say whether memory grows: there must be {FEWEST_LOOKS} looks after the warm-up")
    host, on_device = grown
    print(
        f"epochs: {number} germinations: {run.germinations} culls: {run.culls} "
        f"host: {host // 1024:+d} KiB device: {on_device // 1024:+d} KiB"
    )
    if host > TOLERANCE or on_device > TOLERANCE:
        sys.exit(f"memory grew by more than {TOLERANCE // 1024} KiB after the first {WARM_UP:.0%} of the run")


if __name__ == "__main__":
    main()
