"""Wall and CPU time of rounds."""

from __future__ import annotations

import statistics
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

    def spans(self) -> list[tuple[float, float]]:
        """Wall and CPU seconds from each tick to the next."""
        pairs = zip(self.readings, self.readings[1:], strict=False)
        return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]

    def steady(self) -> dict[str, float]:
        """The median round without the first, which warms up."""
        spans = self.spans()[1:] or self.spans()
        wall, cpu = (statistics.median(values) for values in zip(*spans, strict=True))
        return {"round_wall_s": wall, "round_cpu_s": cpu}


def outcome(clock: Clock, y: Any, predicted: Any) -> dict[str, float]:
    """What a contender reports: the time of a round, and how good its model is."""
    right = predicted == y
    recalls = [right[y == label].mean() for label in sorted(set(y.tolist()))]
    return {
        **clock.steady(),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(sum(recalls) / len(recalls)),
    }
