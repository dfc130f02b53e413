"""Optimisers and the parameters of seeds.

A bank holds the parameters of many seeds, of which only some are to be trained. An optimiser that steps the whole
tensor would move the others too, through weight decay and momentum. So there is an optimiser here that knows which to
leave alone, and hooks that undo what any other `torch.optim` optimiser did to them.
"""

import weakref

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

# The mode of a slot whose seed trains on the main loss.
_TRAINS = 1

# Every parameter that is a bank: a weak reference to its layer, and its index in it.
_banks = WeakTensorKeyDictionary()
# What banks held before the step that an optimiser is in.
_before = weakref.WeakKeyDictionary()


def register_bank(parameter, layer, index):
    """Makes a parameter known as a layer's bank."""
    _banks[parameter] = (weakref.ref(layer), index)


def is_bank(parameter):
    """Whether a parameter is a layer's bank."""
    return parameter in _banks


def _owner(parameter):
    layer, index = _banks[parameter]
    return layer(), index


def split_parameters(module):
    """The parameters of a module in two lists: those of Kasmina seeds, for `kasmina.AdamW`, and all others."""
    parameters = list(module.parameters())
    return [p for p in parameters if is_bank(p)], [p for p in parameters if not is_bank(p)]


class AdamW(torch.optim.Optimizer):
    """AdamW for the parameters of seeds: each slot has its own step count and moments, which begin anew when a seed
    germinates, and slots that are not trained on the main loss keep their bits. Use it beside an optimiser for the
    other parameters; `split_parameters` tells them apart.

    The moments live in the layer and travel with its checkpoint; the state dict of this optimiser has only the rates.
    """

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, param_group):
        super().add_param_group(param_group)
        if any(parameter not in _banks for parameter in self.param_groups[-1]["params"]):
            self.param_groups.pop()
            raise ValueError(
                "kasmina.AdamW updates the parameters of Kasmina layers only; give the others to an optimiser of "
                "torch.optim (kasmina.split_parameters tells them apart)"
            )

    @torch.no_grad()
    def step(self, closure=None):
        """Updates the slots of seeds that train on the main loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rates = (float(group["lr"]), *group["betas"], group["eps"], group["weight_decay"])
            for bank in group["params"]:
                if bank.grad is not None:
                    layer, index = _owner(bank)
                    if layer is None:
                        continue
                    torch.ops.kasmina.adamw_(bank, bank.grad, layer._id, index, *rates)
        return loss


def _foreign_banks(optimizer):
    """The banks that an optimiser which knows nothing of slots is about to step, or has stepped."""
    if isinstance(optimizer, AdamW):
        return []
    return [p for group in optimizer.param_groups for p in group["params"] if p in _banks]


def _keep(optimizer, banks):
    _before[optimizer] = [(bank, bank.detach().clone()) for bank in banks]


def _before_step(optimizer, arguments, options):
    banks = _foreign_banks(optimizer)
    if not banks:
        return None
    _keep(optimizer, banks)
    # A closure runs the model, and with it isolated training: what it leaves is what has to be kept.
    closure = options.get("closure") or (arguments[1] if len(arguments) > 1 else None)
    if closure is None:
        return None

    def closure_and_keep():
        loss = closure()
        _keep(optimizer, banks)
        return loss

    options = {name: value for name, value in options.items() if name != "closure"}
    return (arguments[0], closure_and_keep, *arguments[2:]), options


@torch.no_grad()
def _after_step(optimizer, arguments, options):
    for bank, kept in _before.pop(optimizer, []):
        layer, index = _owner(bank)
        if layer is None:
            continue
        frozen = (layer.bank_array(index, "mode") != _TRAINS).unsqueeze(1)
        bank.copy_(torch.where(frozen, kept, bank))
        # A seed that germinates in a frozen slot must not find the momentum of the one before it.
        for state in optimizer.state.get(bank, {}).values():
            if torch.is_tensor(state) and state.shape == bank.shape:
                state.masked_fill_(frozen, 0)


register_optimizer_step_pre_hook(_before_step)
register_optimizer_step_post_hook(_after_step)
