"""How often a kernel that a training run needs is there already.

    python benches/gpu/hit_ratio.py [--only gpt2 digits] [--device cuda] [--epochs 200] [--tiny]

`gpt2` is a network of GPT-2's shape, written in torch with random weights, with a layer behind every block; seeds of
three blueprints germinate, train, graft and go again at random while it trains. `digits` is the grown network of
examples/digits, trained from several random seeds. Both begin with an empty cache, and a quarter of the epochs (of
digits: the first network) is the warm-up, which waits for the kernels that it asks for. After it nothing is waited for,
and counted are: passes of layers, each of which needs a kernel; what the layers asked the cache for, because their live
blueprints changed; and what was not there.

Writes build/bench/hit-ratio.json and prints a table. The goal is more than 99.9 % after the warm-up.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "python"), str(ROOT / "examples" / "digits")]
# Before the library looks for it: what other runs left would be found from the start.
CACHE = tempfile.TemporaryDirectory(prefix="kasmina-hit-ratio-")
os.environ["KASMINA_CACHE_DIR"] = CACHE.name

import torch  # noqa: E402
from compare import OUTPUT, commit  # noqa: E402
from growing import QUICK, lead_on  # noqa: E402

import kasmina  # noqa: E402
from kasmina import Action, Command, Lifecycle  # noqa: E402

GOAL = 0.999
CHUNK = 64
BLUEPRINTS = ("bottleneck", "low_rank", "mlp")


class Counted:
    """Passes of all layers of the process, and what the caches were asked for; since `begin`."""

    def __init__(self):
        self.passes = 0
        torch.nn.modules.module.register_module_forward_hook(self._count)
        self.begin()

    def _count(self, module, _inputs, _output):
        if isinstance(module, kasmina.Layer):
            trains = module.training and module._isolated_training
            self.passes += 1 + bool(trains) + torch.is_grad_enabled()

    def begin(self):
        self._first, self._passes = kasmina.statistics(), self.passes

    def result(self):
        """Of the time since `begin`. A kernel that could not be had counts as one that was not there."""
        now = kasmina.statistics()
        found = {name: now[name] - self._first[name] for name in ("compiled", "memory_hits", "disk_hits", "failed")}
        missed, hits = found["compiled"] + found["failed"], found["memory_hits"] + found["disk_hits"]
        passes = self.passes - self._passes
        return {
            **found,
            "passes": passes,
            "asked": hits + missed,
            "ratio_of_asked": hits / (hits + missed) if hits + missed else 1.0,
            "ratio": 1 - missed / (passes + hits + missed),
        }


class Gpt2(torch.nn.Module):
    """GPT-2 small: blocks that normalise first, causal attention, one matrix for words in and out."""

    def __init__(self, layers, width, heads, words, length):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(words, width), torch.nn.Embedding(length, width)
        block = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        make = torch.nn.TransformerEncoderLayer
        self.blocks = torch.nn.ModuleList(make(width, heads, 4 * width, **block) for _ in range(layers))
        banks = [(name, width // CHUNK) for name in BLUEPRINTS]
        self.layers = torch.nn.ModuleList(
            kasmina.Layer(width, width // CHUNK, banks, settings=QUICK) for _ in range(layers)
        )
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, tokens):
        x = self.words(tokens) + self.places.weight
        mask = torch.nn.Transformer.generate_square_subsequent_mask(len(x[0]), device=x.device)
        for block, layer in zip(self.blocks, self.layers):
            x = layer(block(x, src_mask=mask, is_causal=True))
        return self.norm(x) @ self.words.weight.T


def command(layer, seed, state, dice):
    """What is done with a seed, so that the live blueprints of a layer change all the time."""
    if state == Lifecycle.DORMANT and dice.random() < 0.2:
        return Command(seed, Action.GERMINATE, blueprint=dice.randrange(len(BLUEPRINTS)))
    goes = state in (Lifecycle.TRAINING, Lifecycle.STABILIZATION) and dice.random() < 0.1
    if state == Lifecycle.FINE_TUNING or goes:
        return Command(seed, Action.CULL)
    return lead_on(seed, state)


def gpt2(options, counted):
    device, dice = torch.device(options.device), random.Random(0)
    torch.manual_seed(0)
    rows, length, words = (2, 16, 64) if options.tiny else (8, 1024, 50257)
    network = Gpt2(*((2, 128, 2) if options.tiny else (12, 768, 12)), words, length).to(device)
    tokens = torch.randint(words, (rows, length + 1), device=device)
    seeds, others = kasmina.split_parameters(network)
    optimizers = [torch.optim.AdamW(others, 1e-4), kasmina.AdamW(seeds, 1e-4)]
    warm_up, germinated = options.epochs // 4, 0
    for epoch in range(options.epochs):
        if epoch == warm_up:
            counted.begin()
        with torch.autocast(device.type, torch.bfloat16):
            scores = network(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for layer in network.layers:
            for seed, state in enumerate(layer.states()):
                wanted = command(layer, seed, state, dice)
                try:
                    layer.submit(*([wanted] if wanted else []))
                except kasmina.TransitionRefused:
                    continue  # Not yet: tried again after the next epoch.
            applied = layer.end_epoch()["applied"]
            if epoch < warm_up:
                layer.wait_for_kernels()
            germinated += sum(record["action"] == "germinate" for record in applied)
    return {"epochs": options.epochs, "warm_up": warm_up, "germinations": germinated, **counted.result()}


def digits(options, counted):
    from train import HIDDEN, train

    epochs, networks = 120, 3 if options.tiny else 10
    for random_seed in range(networks):
        if random_seed == 1:
            counted.begin()
        train("grown", HIDDEN, random_seed, epochs, torch.device(options.device))
    return {"epochs": epochs * networks, "warm_up": epochs, **counted.result()}


RUNS = {"gpt2": gpt2, "digits": digits}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=200, help="of gpt2, one step each")
    parser.add_argument("--tiny", action="store_true", help="a small network, to try it without a device")
    options = parser.parse_args()
    counted, results = Counted(), {}
    for name in options.only:
        counted.begin()
        results[name] = RUNS[name](options, counted)
    name_of_device = "cpu" if options.device == "cpu" else torch.cuda.get_device_name()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    about = {"device": name_of_device, "torch": torch.__version__, "commit": commit(), "results": results}
    (OUTPUT / "hit-ratio.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{name_of_device}, torch {torch.__version__}, commit {about['commit']}, after the warm-up\n")
    counts = ("passes", "asked", "memory_hits", "disk_hits", "compiled", "failed")
    heads = ["run", "epochs", *counts, "there, of passes and asked", "there, of asked", "goal met"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, found in results.items():
        cells = [name, found["epochs"] - found["warm_up"], *(found[count] for count in counts)]
        cells += [f"{found['ratio']:.4%}", f"{found['ratio_of_asked']:.2%}", "yes" if found["ratio"] > GOAL else "no"]
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
