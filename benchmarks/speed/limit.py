"""The physical limit: the matrix products of a round at the machine's own rate."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.speed.workloads import Workload


def limit(
    workload: Workload, seconds: float = 1.0, sizes: tuple[int, ...] = (1024, 2048)
) -> dict[str, float]:
    """CPU seconds of a round's products on one thread.

    At the rate of large square products (of the fastest size), which nothing can beat; at the rate
    of products of the workload's own shapes, called one after another, which is what any
    implementation that makes one call per client and step is bound by; and at the rate of the same
    shapes with one call a step for up to 20 of a round's clients.
    """
    torch.set_num_threads(1)
    large = [_rate(n, n, n, seconds / len(sizes)) for n in sizes]
    best, median = (max(rate[i] for rate in large) for i in (0, 1))
    flops, steps = workload.flops_per_round(), workload.rows_per_round / workload.batch_size
    at_shapes, together = (
        sum(
            2 * m * k * n / _rate(m, k, n, seconds / 8, n_clients)[1] * steps
            for m, k, n in workload.products()
        )
        for n_clients in (1, min(20, workload.per_round))
    )
    return {
        "flops_per_round": flops,
        "gflops_best": best / 1e9,
        "gflops_median": median / 1e9,
        "round_cpu_s": flops / best,
        "limit_median_s": flops / median,
        "limit_at_shapes_s": at_shapes,
        "limit_together_s": together,
    }


def _rate(m: int, k: int, n: int, seconds: float, n_clients: int = 1) -> tuple[float, float]:
    """Best and median operations a second of ``(m, k) @ (k, n)``, for several clients at once."""
    stack = (n_clients,) if n_clients > 1 else ()
    a, b, out = (torch.rand(*stack, *shape) for shape in ((m, k), (k, n), (m, n)))
    operations = 2 * m * k * n * n_clients
    calls = max(1, int(2e7 / operations))  # so that a reading is long against the clock's own cost
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        began = time.process_time()  # what other processes take does not count
        for _ in range(calls):
            torch.matmul(a, b, out=out)
        times.append(time.process_time() - began)
    del times[0]  # the first warms up
    return calls * operations / min(times), calls * operations / statistics.median(times)
