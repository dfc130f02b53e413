"""Times of contestants that take turns. Knows nothing of what they compute.

Two numbers for each, both medians in microseconds:

`device`  what the device takes: it is kept busy before the call, so that all launches are queued when the first begins
`call`    what a caller on an idle device waits for: launches are paid as well

On the CPU, where there is nothing to queue, the two are one.
"""

import dataclasses
import random
import statistics
import time

import torch

# What one contestant may take of one comparison, and how many turns that must and may be.
SECONDS, FEWEST, MOST = 0.4, 3, 60
# Three calls warm up, or fewer if they take as long as this.
WARM_UP = 0.5
# Short calls are timed several at a time, as many as come near this, because events have a cost of their own.
MICROSECONDS, TOGETHER = 100, 16
# The device is kept busy for no longer than this.
LONGEST_LEAD = 50_000
# The clock of the newest devices, in cycles a microsecond. Slower ones wait for longer.
CYCLES = 2000


@dataclasses.dataclass
class Runner:
    """Something to time: `run(i)` makes `calls` calls, on the i-th of `inputs` inputs."""

    run: callable
    inputs: int = 1
    calls: int = 1


def time_all(runners, device, quick=False):
    """Times of each runner; one that fails has `failed` and the reason instead."""
    seconds = SECONDS / 4 if quick else SECONDS
    kind = OnCuda if torch.device(device).type == "cuda" else OnCpu
    results, turns = {}, {}
    for name, runner in runners.items():
        try:
            turns[name] = kind(runner, seconds)
        except Exception as error:
            results[name] = failure(error)
    waiting = list(turns)
    while waiting:
        random.shuffle(waiting)
        for name in list(waiting):
            try:
                turns[name].take()
            except Exception as error:
                results[name] = failure(error)
            if name in results or not turns[name].left:
                waiting.remove(name)
    for name, turn in turns.items():
        results.setdefault(name, turn.result() if name not in results else None)
    return results


def failure(error):
    text = str(error).strip() or type(error).__name__
    return {"failed": f"{type(error).__name__}: {text.splitlines()[0][:200]}"}


class _Turns:
    """The turns of one runner: what it took in each, and which input is next."""

    def __init__(self, runner, seconds):
        self.runner, self.next = runner, 0
        self.device, self.call = [], []
        begun = time.perf_counter()
        for _ in range(3):
            self._run()
            self._wait()
            if time.perf_counter() - begun > WARM_UP:
                break
        start = time.perf_counter()
        self._run()
        self.host = (time.perf_counter() - start) * 1e6
        self._wait()
        self.whole = (time.perf_counter() - start) * 1e6
        self.left = int(min(max(seconds * 1e6 / (2 * self.whole + 500), FEWEST), MOST))

    def _run(self):
        self.runner.run(self.next % self.runner.inputs)
        self.next += 1

    def result(self):
        calls = self.runner.calls
        return {
            "device": statistics.median(self.device) / calls,
            "call": statistics.median(self.call) / calls,
            "least": min(self.device) / calls,
            "turns": len(self.device),
        }


class OnCpu(_Turns):
    def _wait(self):
        pass

    def take(self):
        start = time.perf_counter()
        self._run()
        self.call.append((time.perf_counter() - start) * 1e6)
        self.device.append(self.call[-1])
        self.left -= 1


class OnCuda(_Turns):
    def __init__(self, runner, seconds):
        super().__init__(runner, seconds)
        self.together = 1
        self.together = int(min(max(MICROSECONDS / self._on_device(), 1), TOGETHER))

    def _wait(self):
        torch.cuda.synchronize()

    def take(self):
        self.call.append(self._between_events(1))
        self.device.append(self._on_device())
        self.left -= 1

    def _on_device(self):
        # Long enough for the host to queue everything, with half as much again for its bad moments.
        lead = min(1.5 * self.host * self.together + 50, LONGEST_LEAD)
        torch.cuda._sleep(int(lead * CYCLES))
        return self._between_events(self.together) / self.together

    def _between_events(self, runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(runs):
            self._run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3


def host_microseconds(run, device, batches=20, calls=300):
    """What a call costs the host: many without waiting, few enough for the launch queue to hold them."""
    run()
    times = []
    for _ in range(batches):
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times.append((time.perf_counter() - start) * 1e6 / calls)
    return {"call": statistics.median(times), "least": min(times), "turns": batches}


def copy_rate(device):
    """Bytes a second that a large copy moves, counting those read and those written."""
    source = torch.randn(1 << (29 if torch.device(device).type == "cuda" else 22), device=device).bfloat16()
    target = torch.empty_like(source)
    taken = time_all({"copy": Runner(lambda _: target.copy_(source))}, device)["copy"]
    return 2 * source.nbytes / (taken["device"] * 1e-6)


def matmul_rate(device):
    """Floating-point operations a second of a large bf16 matrix product."""
    size = 8192 if torch.device(device).type == "cuda" else 256
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    taken = time_all({"matmul": Runner(lambda _: a @ b)}, device)["matmul"]
    return 2 * size**3 / (taken["device"] * 1e-6)


def launches(run, device):
    """How many kernels a call launches on the device; none is known of on the CPU."""
    if torch.device(device).type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    named = [event.name for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return len([name for name in named if not name.startswith(("Memcpy", "Memset"))])
