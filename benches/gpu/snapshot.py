"""What it costs to take a snapshot of a layer and to go back to it.

    python benches/gpu/snapshot.py [--device cuda] [--quick]

Layers in which every seed has a 64-16-64 bottleneck, with parameters and moments: 1000 seeds and 100 000 (with 2.6 GB of
them). Three medians in milliseconds, for a snapshot into memory that is there and for a restore:

`device`  what the copies take on the device
`call`    how long the caller is held up
`whole`   from an idle device to the end of the copies, after which a forward finds everything as it was

Checks that what comes back is what was there, bit for bit; exits with 1 if that or a goal fails. The goals: a whole
restore in less than 1 ms for 1000 seeds and less than 5 ms for 100 000. Writes build/bench/gpu-snapshot.json.
"""

import argparse
import json
import logging
import statistics
import sys
import time

import torch
from compare import OUTPUT, commit

import kasmina

CHUNK, WIDTH = 64, 16
GOALS = {1000: 1.0, 100_000: 5.0}
TURNS = 20


def layer_of(seeds, device):
    """A layer in which every seed has germinated."""
    settings = {"max_active_seeds": seeds}
    blueprint = kasmina.Blueprint.library("bottleneck", CHUNK, width=WIDTH)
    layer = kasmina.Layer(CHUNK * seeds, seeds, [(blueprint, seeds)], device=device, settings=settings)
    layer.submit(*(kasmina.Command(seed, kasmina.Action.GERMINATE) for seed in range(seeds)))
    refused = layer.end_epoch()["refused"]
    assert not refused, refused[0]["reason"]
    return layer


def scramble(layer):
    """Other numbers in every array that is large."""
    for index, bank in enumerate(layer.banks()):
        for tensor in (bank.data, layer.bank_array(index, "first_moment"), layer.bank_array(index, "second_moment")):
            tensor.uniform_(-1, 1)
    layer.telemetry.uniform_(0, 1)


def arrays(layer):
    names = ("lifecycle", "blueprint", "slot", "alpha", "flags", "telemetry", "loss")
    banks = ("parameters", "first_moment", "second_moment", "steps", "mode")
    found = [layer.array(name) for name in names] + [layer.bank_array(0, name) for name in banks]
    # As bytes: torch compares no unsigned integers on CUDA.
    return [array.view(torch.uint8) for array in found]


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_once(run, device):
    """Device, call and whole time of one run, in milliseconds."""
    wait(device)
    if device.type == "cuda":
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
    begun = time.perf_counter()
    run()
    returned = time.perf_counter()
    wait(device)
    ended = time.perf_counter()
    call, whole = (returned - begun) * 1e3, (ended - begun) * 1e3
    if device.type != "cuda":
        return whole, call, whole
    # Once more behind a busy device, so that the host is not in what is measured.
    torch.cuda._sleep(10_000_000)
    events[0].record()
    run()
    events[1].record()
    wait(device)
    return events[0].elapsed_time(events[1]), call, whole


def times(run, before, device, turns):
    """The medians of some turns."""
    taken = []
    for _ in range(turns):
        before()
        taken.append(time_once(run, device))
    return dict(zip(("device", "call", "whole"), map(statistics.median, zip(*taken))))


def measure(seeds, device, turns):
    layer = layer_of(seeds, device)
    scramble(layer)
    snapshot, then = layer.snapshot(), [array.clone() for array in arrays(layer)]
    result = {"seeds": seeds, "bytes": snapshot.bytes}
    result["restore"] = times(lambda: layer.restore(snapshot, "timing"), lambda: scramble(layer), device, turns)
    exact = all(torch.equal(ours, theirs) for ours, theirs in zip(arrays(layer), then))
    result["bit_exact"] = exact
    result["take"] = times(lambda: layer.snapshot(into=snapshot), lambda: None, device, turns)
    result["goal"] = GOALS.get(seeds)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    parser.add_argument("--quick", action="store_true", help="the small layer only, and fewer turns")
    arguments = parser.parse_args()
    device = torch.device(arguments.device, 0) if arguments.device == "cuda" else torch.device(arguments.device)
    # Every restore is a warning, which takes longer to print than to do.
    logging.getLogger("kasmina").setLevel(logging.ERROR)
    results, failed = [], False
    print(f"{'seeds':>8} {'MB':>8}   {'':8} {'device':>9} {'call':>9} {'whole':>9}")
    for seeds in list(GOALS)[: 1 if arguments.quick else None]:
        result = measure(seeds, device, TURNS // 4 if arguments.quick else TURNS)
        results.append(result)
        for what in ("take", "restore"):
            numbers = " ".join(f"{result[what][name]:9.3f}" for name in ("device", "call", "whole"))
            print(f"{seeds:8} {result['bytes'] / 1e6:8.1f}   {what:8} {numbers}", flush=True)
        judged = "not judged on the CPU"
        if device.type == "cuda":
            judged = "kept" if result["restore"]["whole"] < result["goal"] else "MISSED"
        failed |= judged == "MISSED" or not result["bit_exact"]
        print(f"{'':19}bit exact: {result['bit_exact']}, goal of {result['goal']} ms: {judged}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / "gpu-snapshot.json"
    path.write_text(json.dumps({"device": name, "commit": commit(), "layers": results}, indent=2) + "\n")
    print(f"wrote {path}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
