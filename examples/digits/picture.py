"""Draws a run: how well the three networks do, what state each seed is in, and how far it is blended in."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from kasmina import Lifecycle

NETWORKS = {"small": "#7f7f7f", "grown": "#d62728", "large": "#1f77b4"}
SEEDS = ["#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2"]
STATES = {
    Lifecycle.DORMANT: "#eeeeee",
    Lifecycle.GERMINATED: "#c7e9c0",
    Lifecycle.TRAINING: "#74c476",
    Lifecycle.GRAFTING: "#fdd049",
    Lifecycle.STABILIZATION: "#fdae6b",
    Lifecycle.EVALUATING: "#9ecae1",
    Lifecycle.FINE_TUNING: "#4292c6",
    Lifecycle.FOSSILIZED: "#54278f",
    Lifecycle.CULLED: "#a50f15",
    Lifecycle.CANCELLED: "#bdbdbd",
    Lifecycle.ROLLED_BACK: "#000000",
}


def draw(runs, path):
    """Draws the run whose grown network has the median test accuracy of all runs."""
    order = sorted(range(len(runs)), key=lambda index: runs[index]["grown"]["accuracy"])
    index = order[len(order) // 2]
    run = runs[index]
    history = run["grown"]["history"]
    epochs = range(1, len(history) + 1)
    seeds = len(history[0]["states"])

    figure, (accuracy, loss, lanes, alpha) = plt.subplots(
        4, 1, figsize=(11, 11), sharex=True, height_ratios=[3, 3, 0.5 + 0.45 * seeds, 1.6], layout="constrained"
    )
    figure.suptitle(
        f"Handwritten digits: run {index + 1} of {len(runs)}, the one whose grown network has the median accuracy",
        fontsize=13,
    )
    for kind, color in NETWORKS.items():
        result = run[kind]
        label = f"{kind}: {result['parameters']} parameters, test accuracy {result['accuracy']:.3f}"
        accuracy.plot(epochs, [record["accuracy"] for record in result["history"]], color=color, label=label)
        loss.plot(epochs, [record["loss"] for record in result["history"]], color=color, label=kind)
    accuracy.set_ylabel("validation accuracy")
    accuracy.set_ylim(bottom=0.85, top=1.0)
    accuracy.legend(loc="lower right")
    loss.set_ylabel("validation loss")
    loss.set_yscale("log")
    loss.legend(loc="upper right")

    used = set()
    for seed in range(seeds):
        states = [record["states"][seed] for record in history]
        for epoch, state in zip(epochs, states):
            lanes.barh(seed, 1, left=epoch - 0.5, height=0.75, color=STATES[state])
        used |= set(states)
        applied = [Lifecycle.GRAFTING <= state <= Lifecycle.FOSSILIZED for state in states]
        alphas = [record["alphas"][seed] if applies else 0 for record, applies in zip(history, applied)]
        alpha.plot(epochs, alphas, color=SEEDS[seed % len(SEEDS)], label=f"seed {seed}")
    lanes.set_yticks(range(seeds), [f"seed {seed}" for seed in range(seeds)])
    lanes.invert_yaxis()
    lanes.set_ylabel("lifecycle state")
    names = [Patch(color=color, label=state.name.lower()) for state, color in STATES.items() if state in used]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02), "ncols": len(names)}
    lanes.legend(handles=names, fontsize=8, frameon=False, **below)
    alpha.set_ylabel("blend weight alpha")
    alpha.set_ylim(-0.05, 1.05)
    alpha.set_xlabel("epoch")
    alpha.legend(loc="upper left")
    for axes in (accuracy, loss, alpha):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
