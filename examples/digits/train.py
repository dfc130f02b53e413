"""Trains a classifier of handwritten digits that grows while it trains, and compares it with ones that do not.

Three networks see the same images for the same number of epochs, with the same optimiser: a small one, the same one
with a Kasmina layer behind its hidden layer, and one that has from the start as many parameters as the second has in
the end. What comes out is printed as a table, and written as build/demo/digits.json and build/demo/digits.png.

The images (1797, from scikit-learn) are split anew for each random seed: 60 % are trained on, 20 % validate (the
controller sees these), and 20 % test. The test images are looked at once, when training is over.
"""

import argparse
import hashlib
import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from controller import SETTINGS, Controller
from network import CLASSES, INNER, PIXELS, Network, Trainer, blueprint, parameter_count
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kasmina

HIDDEN, SEEDS = 8, 2
BATCH, LEARNING_RATE = 32, 3e-3
ROOT = pathlib.Path(__file__).resolve().parents[2]


def split(random_seed, device):
    """The images in three parts that share none."""
    digits = load_digits()
    x, y = digits.data / 16, digits.target
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=random_seed, stratify=y)
    x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.25, random_state=random_seed, stratify=y)
    parts = {"training": (x, y), "validation": (x_validation, y_validation), "test": (x_test, y_test)}
    return {
        name: (torch.tensor(x, dtype=torch.float32, device=device), torch.tensor(y, device=device))
        for name, (x, y) in parts.items()
    }


def growing_network(hidden, random_seed, device):
    """A small network with a layer of dormant seeds."""
    layer = kasmina.Layer(
        hidden,
        SEEDS,
        [(blueprint(hidden // SEEDS), SEEDS)],
        device=device,
        settings={**SETTINGS, "layer_id": "digits", "random_seed": random_seed},
    )
    return Network(hidden, layer)


def train(kind, hidden, random_seed, epochs, device):
    """Trains one network and returns it with what became of it."""
    # The first two begin with the same weights.
    torch.manual_seed(random_seed)
    network = (growing_network(hidden, random_seed, device) if kind == "grown" else Network(hidden)).to(device)
    data = split(random_seed, device)
    trainer = Trainer(network, data, LEARNING_RATE, BATCH, random_seed)
    # A seed that germinates later could not be judged before training ends.
    controller = Controller(network.layer, last_germination=epochs - 45) if kind == "grown" else None
    history, start = [], time.perf_counter()
    for epoch in range(1, epochs + 1):
        trainer.epoch()
        loss, accuracy = trainer.measure("validation")
        record = {"loss": loss, "accuracy": accuracy}
        if controller:
            record["transitions"] = controller.end_epoch(loss)
            record["states"] = [int(state) for state in network.layer.states()]
            record["alphas"] = network.layer.alpha.tolist()
        history.append(record)
        if sys.stdout.isatty():
            print(f"\r  {kind:<6} epoch {epoch}/{epochs}  validation accuracy {accuracy:.3f}", end="", flush=True)
    seconds = time.perf_counter() - start
    loss, accuracy = trainer.measure("test")
    result = {
        "accuracy": accuracy,
        "parameters": parameter_count(network),
        "training_flops": trainer.flops,
        "seconds": seconds,
        "history": history,
    }
    print("\r" * sys.stdout.isatty() + summary(kind, result), flush=True)
    return network, result


def summary(kind, result):
    """One line about a finished network."""
    line = f"  {kind:<6} test accuracy {result['accuracy']:.4f}, {result['parameters']:>5} parameters"
    line += f", {result['seconds']:.1f} s"
    if kind == "grown":
        ends = [record["to"] for epoch in result["history"] for record in epoch["transitions"]]
        line += f"; seeds fossilized: {ends.count('FOSSILIZED')}, culled: {ends.count('CULLED')}"
    return line


def equal_hidden(parameters):
    """The width at which a network that does not grow has about as many parameters."""
    return max(1, round((parameters - CLASSES) / (PIXELS + 1 + CLASSES)))


def scores_digest(network, data):
    """A digest of the bits of all scores on the test images."""
    with torch.no_grad():
        scores = network.eval()(data["test"][0])
    return hashlib.sha256(scores.cpu().numpy().tobytes()).hexdigest()


def check_checkpoint(network, random_seed, device, directory):
    """Saves the network, loads it in a new process, and compares the bits of what both compute."""
    path = directory / "digits.pt"
    torch.save({"model": network.state_dict(), "hidden": network.first.out_features}, path)
    options = ["--check", str(path), "--random-seed", str(random_seed), "--device", str(device)]
    found = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"the checkpoint could not be loaded:\n{found.stderr}")
    if found.stdout.strip() != scores_digest(network, split(random_seed, device)):
        sys.exit("the checkpoint, loaded in a new process, computes other bits")
    print(f"\ncheckpoint: {path}, loaded in a new process, computes the same bits")


def print_digest(path, random_seed, device):
    """What the new process does."""
    checkpoint = torch.load(path, weights_only=True)
    network = growing_network(checkpoint["hidden"], random_seed, device).to(device)
    network.load_state_dict(checkpoint["model"])
    print(scores_digest(network, split(random_seed, device)))


def collect(runs):
    """The means over runs, as they are written to digits.json."""
    rows = {}
    for kind in ("small", "grown", "large"):
        results = [run[kind] for run in runs]
        accuracies = [result["accuracy"] for result in results]
        rows[kind] = {
            "accuracy_mean": statistics.mean(accuracies),
            "accuracy_spread": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            "accuracies": accuracies,
            "parameters": statistics.mean(result["parameters"] for result in results),
            "training_flops": statistics.mean(result["training_flops"] for result in results),
            "seconds": statistics.mean(result["seconds"] for result in results),
        }
    return rows


def print_table(rows, options):
    counts = kasmina.statistics()
    print(f"\nmeans of {options.runs} runs, {options.epochs} epochs each, on {options.device}\n")
    print(f"{'':<7}{'test accuracy':>19}{'parameters':>12}{'training GFLOP':>16}{'seconds':>9}")
    for kind, row in rows.items():
        accuracy = f"{row['accuracy_mean']:.4f} +- {row['accuracy_spread']:.4f}"
        gflops = row["training_flops"] / 1e9
        print(f"{kind:<7}{accuracy:>19}{row['parameters']:>12.0f}{gflops:>16.2f}{row['seconds']:>9.1f}")
    print(
        f"\nkernels compiled: {counts['compiled']} ({counts['compile_seconds']:.2f} s), "
        f"cache hits: {counts['memory_hits']} in memory, {counts['disk_hits']} on disk"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--runs", type=int, default=5, help="random seeds (default: 5)")
    parser.add_argument("--epochs", type=int, default=120, help="epochs of each network (default: 120)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "demo", help="where results go")
    parser.add_argument("--check", help=argparse.SUPPRESS)
    parser.add_argument("--random-seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    # These networks are too small for more threads to help.
    torch.set_num_threads(1)
    if options.check:
        return print_digest(options.check, options.random_seed, device)

    options.output.mkdir(parents=True, exist_ok=True)
    runs, first = [], None
    for random_seed in range(options.runs):
        print(f"run {random_seed + 1} of {options.runs}", flush=True)
        _, small = train("small", HIDDEN, random_seed, options.epochs, device)
        network, grown = train("grown", HIDDEN, random_seed, options.epochs, device)
        _, large = train("large", equal_hidden(grown["parameters"]), random_seed, options.epochs, device)
        runs.append({"small": small, "grown": grown, "large": large})
        first = first or network
    check_checkpoint(first, 0, device, options.output)
    rows = collect(runs)
    print_table(rows, options)

    from picture import draw

    settings = {"runs": options.runs, "epochs": options.epochs, "batch": BATCH, "learning_rate": LEARNING_RATE}
    settings |= {"hidden": HIDDEN, "seeds": SEEDS, "inner": INNER, "device": options.device}
    document = {**rows, "settings": settings, "kernels": kasmina.statistics()}
    (options.output / "digits.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(runs, options.output / "digits.png")
    print(f"written: {options.output / 'digits.json'}, {options.output / 'digits.png'}")


if __name__ == "__main__":
    main()
