"""How fast a training learns, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine to zero, or a constant rate with a late cool-down; over steps or minutes."""

    rate: float
    steps: int = 0
    minutes: float = 0.0
    warmup: int = 500
    """In steps."""
    cooldown: float = 0.0
    """Share of the schedule, at its end, over which a constant rate falls as 1 - sqrt; 0 is a cosine over all of it."""

    def progress(self, step: int, seconds: float) -> float:
        """Progress of the training, 0..1; 1 means stop."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / 60 / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate_at(self, step: int, seconds: float) -> float:
        """Learning rate for this step."""
        done = self.progress(step, seconds)
        if self.cooldown:
            # The best of the usual ways to end a constant rate (Hägele et al. 2024).
            left = 1 - math.sqrt(max(0.0, 1 - (1 - done) / self.cooldown))
        else:
            left = 0.5 * (1 + math.cos(math.pi * done))
        return self.rate * left * min(1.0, (step + 1) / max(1, self.warmup))
