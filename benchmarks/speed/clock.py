"""Wall and CPU time between ticks."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """Reads the wall clock and the CPU time of this process, all threads together.

    Parameters
    ----------
    device : str
        Work that was started on an accelerator is waited for before a reading.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.readings: list[tuple[float, float]] = []

    def tick(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        self.readings.append((time.perf_counter(), time.process_time()))

    def spans(self) -> dict[str, list[float]]:
        """Seconds from each tick to the next."""
        pairs = list(zip(self.readings, self.readings[1:], strict=False))
        return {
            "rounds_wall_s": [after[0] - before[0] for before, after in pairs],
            "rounds_cpu_s": [after[1] - before[1] for before, after in pairs],
        }


def outcome(clock: Clock, y: Any, predicted: Any) -> dict[str, Any]:
    """What a contender reports: the time of each round, and how good its model is."""
    right = predicted == y
    recalls = [right[y == label].mean() for label in sorted(set(y.tolist()))]
    return {
        **clock.spans(),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(sum(recalls) / len(recalls)),
    }
