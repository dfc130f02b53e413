"""A small, honest controller: it sees what a trainer has, the validation loss and the layer's report, and decides.

It never sees the test images. The library checks every command against its gates, so what this file does too early is
refused and tried again after the next epoch.
"""

import statistics

import kasmina
from kasmina import Action, Command

# A plateau: the best loss of the last WINDOW epochs is not IMPROVEMENT better than the best one before them.
WINDOW = 4
IMPROVEMENT = 0.05
# How long a seed may take to learn in isolation, to prove that it helps, and to be tuned.
TRAINING_EPOCHS = 20
EVALUATION_EPOCHS = 6
TUNING_EPOCHS = 16

SETTINGS = {
    "ramp_steps": 8,
    "minimum_epochs": {"evaluating": 2, "fine_tuning": 6},
    "training": {"learning_rate": 0.01, "weight_decay": 0.0, "loss_threshold": 0.01},
}


class Controller:
    """Germinates a seed at a plateau, takes it through its lifecycle, and keeps it or not by what it did for the loss.

    `last_germination` is the epoch after which no seed germinates, so that all can be judged before training ends.
    """

    def __init__(self, layer, last_germination):
        self.layer = layer
        self.last_germination = last_germination
        self.losses = []
        self.loss_before = {}
        self.quiet_since = 0

    def end_epoch(self, validation_loss):
        """Decides, ends the layer's epoch, and returns the transitions that took place."""
        self.losses.append(validation_loss)
        seeds = self.layer.report()["seeds"]
        for seed in seeds:
            decide = getattr(self, f"_{seed['state'].lower()}", None)
            if decide:
                decide(seed)
        if self._may_germinate(seeds):
            self._germinate(seeds)
        applied = self.layer.end_epoch()["applied"]
        if any(record["to"] == "GERMINATED" for record in applied):
            self.layer.prepare()
        return applied

    def _may_germinate(self, seeds):
        """One seed on its way at a time, and only at a plateau that began after the last one was settled."""
        busy = any(seed["state"] not in ("DORMANT", "FOSSILIZED", "CULLED", "CANCELLED") for seed in seeds)
        if busy:
            self.quiet_since = len(self.losses)
        old, recent = self.losses[self.quiet_since : -WINDOW], self.losses[-WINDOW:]
        plateau = len(old) > 0 and min(recent) > (1 - IMPROVEMENT) * min(old)
        return plateau and not busy and len(self.losses) <= self.last_germination

    def _germinate(self, seeds):
        dormant = [seed for seed in seeds if seed["state"] == "DORMANT"]
        if dormant:
            # Where the loss pulls hardest.
            chosen = max(dormant, key=lambda seed: seed["metrics"]["gradient_norm"] or 0.0)["seed"]
            self.loss_before[chosen] = min(self.losses[-WINDOW:])
            self._try(chosen, Action.GERMINATE, reason="the validation loss is on a plateau")

    def _germinated(self, seed):
        self._try(seed["seed"], Action.START_TRAINING)

    def _training(self, seed):
        if not self._try(seed["seed"], Action.START_GRAFTING) and seed["epochs"] >= TRAINING_EPOCHS:
            self._try(seed["seed"], Action.CULL, reason="it has not learnt to reconstruct its input")

    def _grafting(self, seed):
        if seed["alpha"] == 1:
            self._try(seed["seed"], Action.STABILISE)

    def _stabilization(self, seed):
        self._try(seed["seed"], Action.EVALUATE)

    def _evaluating(self, seed):
        evidence = {"validation_delta": self._gain(seed), "stability": self._stability()}
        if not self._try(seed["seed"], Action.FINE_TUNE, **evidence) and seed["epochs"] >= EVALUATION_EPOCHS:
            self._try(seed["seed"], Action.CULL, reason=f"validation changed by {self._gain(seed):+.4f}")

    def _fine_tuning(self, seed):
        improvement = self._gain(seed) / self.loss_before[seed["seed"]]
        evidence = {"improvement": improvement, "stability": self._stability()}
        if not self._try(seed["seed"], Action.FOSSILISE, **evidence) and seed["epochs"] >= TUNING_EPOCHS:
            self._try(seed["seed"], Action.CULL, reason=f"the loss improved by {improvement:.1%} only")

    def _culled(self, seed):
        self._try(seed["seed"], Action.RESET)

    def _gain(self, seed):
        """How much the validation loss fell since the seed germinated; the mean of three epochs, against luck."""
        return self.loss_before[seed["seed"]] - statistics.mean(self.losses[-3:])

    def _stability(self):
        """1 for a loss that does not jump about."""
        recent = self.losses[-4:]
        return max(0.0, 1 - statistics.pstdev(recent) / statistics.mean(recent))

    def _try(self, seed, action, **rest):
        try:
            self.layer.submit(Command(seed, action, **rest))
        except kasmina.TransitionRefused:
            return False
        return True
