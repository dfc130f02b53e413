"""Records as tables and as a plot. Decides nothing: goals are judged in floors.py."""

# The columns of the table of peers: a title, and the beginning of the names of which the best is shown.
PEERS = {
    "eager loop": "eager loop",
    "eager": "eager vectorised",
    "torch.compile": "torch.compile",
    "max-autotune, graph": "max-autotune graph",
    "vmap": "vmap",
    "Triton": "triton",
}


def best(record, beginning):
    """The times of the contestant of this name, else of the fastest whose name begins so; None if none was measured."""
    if "device" in record["contestants"].get(beginning, {}):
        return record["contestants"][beginning]
    own = [times for name, times in record["contestants"].items() if name.startswith(beginning) and "device" in times]
    return min(own, key=lambda times: times["device"]) if own else None


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def shape(record):
    return f"{record['rows']}x{record['hidden']} {record['type']}, {record['active']} of {record['seeds']} seeds"


def line(record):
    """One record in one line, while it is being measured."""
    parts = []
    for name, times in record["contestants"].items():
        parts.append(
            f"{name}: {times['failed'] if 'failed' in times else number(times.get('device', times.get('call')))}"
        )
    return f"{record['work']}, {record['pass']} (us): " + "; ".join(parts)


def goal_table(records):
    lines = ["| work | pass | contestant | goal | measured | met |", "|---|---|---|---|---|---|"]
    for record in records:
        for goal in record["goals"]:
            unit = " us" if goal["goal"].endswith(" us") else "x" if "x " in goal["goal"] else ""
            measured = "not measured" if goal["measured"] is None else f"{number(goal['measured'])}{unit}"
            if goal.get("on_device"):
                measured += f" (on the device {number(goal['on_device'])}x)"
            met = {True: "yes", False: "no", None: "-"}[goal["met"]]
            who = goal["contestant"]
            lines.append(f"| {record['work']} | {record['pass']} | {who} | {goal['goal']} | {measured} | {met} |")
    return "\n".join(lines)


def time_table(records):
    """Every contestant of every record."""
    lines = [
        "| work | pass | contestant | device us | call us | x floor | x kasmina (device) | x kasmina (call) | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        ours = record["contestants"].get("kasmina", {})
        floor = record["floor"] and record["floor"]["microseconds"]
        title = f"{record['work']} ({shape(record)})"
        if floor:
            lines.append(f"| {title} | {record['pass']} | floor | {number(floor)} | | 1 | | | |")
        for name, times in record["contestants"].items():
            if "failed" in times:
                lines.append(f"| {title} | {record['pass']} | {name} | failed: {times['failed']} | | | | | |")
                continue
            ratios = [
                number(times[kind] / ours[kind]) if kind in times and kind in ours and name != "kasmina" else ""
                for kind in ("device", "call")
            ]
            over = number(times["device"] / floor) if floor and "device" in times else ""
            error = f"{times['error']:.1g}" if "error" in times else ""
            device = number(times["device"]) if "device" in times else ""
            lines.append(
                f"| {title} | {record['pass']} | {name} | {device} | {number(times['call'])} | {over} "
                f"| {' | '.join(ratios)} | {error} |"
            )
    return "\n".join(lines)


def peer_table(records):
    """How many times as long as Kasmina the peers take on the device."""
    records = [record for record in records if "device" in record["contestants"].get("kasmina", {})]
    lines = [
        f"| work | pass | kasmina us | floor us | x floor | {' | '.join(f'{title}: x' for title in PEERS)} |",
        "|---|---|---|---|---|" + "---|" * len(PEERS),
    ]
    for record in records:
        ours, floor = record["contestants"]["kasmina"]["device"], record["floor"] and record["floor"]["microseconds"]
        peers = [best(record, beginning) for beginning in PEERS.values()]
        ratios = " | ".join(number(times["device"] / ours) if times else "-" for times in peers)
        over = number(ours / floor) if floor else "-"
        lines.append(f"| {record['work']} | {record['pass']} | {number(ours)} | {number(floor)} | {over} | {ratios} |")
    return "\n".join(lines)


def draw(about, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = [
        record
        for record in about["results"]
        if record["floor"] and any("device" in times for times in record["contestants"].values())
    ]
    if not records:
        return
    figure, axis = plt.subplots(figsize=(max(8, 1.1 * len(records)), 6), layout="constrained")
    columns = {"kasmina": "kasmina", **PEERS}
    width = 0.9 / len(columns)
    for position, (title, beginning) in enumerate(columns.items()):
        found = [(place, best(record, beginning)) for place, record in enumerate(records)]
        bars = [(place, times["device"] / records[place]["floor"]["microseconds"]) for place, times in found if times]
        places = [place + width * (position + 0.5) - 0.45 for place, _ in bars]
        drawn = axis.bar(places, [ratio for _, ratio in bars], width, label=title)
        if beginning == "kasmina":
            axis.bar_label(drawn, fmt="%.2f", fontsize=7)
    short = {"forward": "fwd", "forward and backward": "fwd+bwd"}
    names = [f"{record['work']}\n{short.get(record['pass'], record['pass'])}" for record in records]
    axis.set_xticks(range(len(records)), names, fontsize=7, rotation=45, ha="right")
    axis.axhline(1, color="black", linewidth=1)
    axis.set_yscale("log")
    axis.set_ylabel("time on the device relative to the floor")
    axis.legend()
    axis.set_title(f"The layer on {about['device']}, torch {about['torch']}, commit {about['commit'] or 'unknown'}")
    figure.savefig(path, dpi=110)
