"""The learned part of a network, and its moving average, which is what is used in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without its frozen parameters: a LoRA run need not store its base model."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_learned_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state from :func:`learned_state`.

    Raises:
        RuntimeError: the state is of another module.
    """
    missing = set(learned_state(module)) ^ set(state)
    if missing:
        raise RuntimeError(f"the checkpoint does not fit the networks: {', '.join(sorted(missing)[:5])} ...")
    module.load_state_dict(dict(state), strict=False)


class Average:
    """Exponential moving average of a module's learned weights, with the usual ramp at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in learned_state(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights of this step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = learned_state(module)
        floats = [name for name, value in now.items() if value.is_floating_point()]
        # All at once: a kernel for each tensor would cost more than the step on a GPU.
        torch._foreach_lerp_([self.weights[name] for name in floats], [now[name] for name in floats], 1 - decay)
        for name in now.keys() - set(floats):
            self.weights[name].copy_(now[name])

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """Temporarily give a module the averaged weights, in evaluation mode."""
        own = {name: value.detach().clone() for name, value in learned_state(module).items()}
        load_learned_state(module, self.weights)
        module.eval()
        try:
            yield
        finally:
            load_learned_state(module, own)
            module.train()
