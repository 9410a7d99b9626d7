"""How a fit shows that it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from skfedfocal._training.federation import Round
from skfedfocal.engines import Engine

_WIDTH = 30


def progress(
    rounds: Iterable[Round], n_rounds: int, verbose: int, engine: Engine
) -> Iterator[Round]:
    """Pass rounds on; draw a bar on standard error (1) or print a line for each (2)."""
    drawn = False
    try:
        for i, item in enumerate(rounds, 1):
            yield item
            _draw(i, item, n_rounds, verbose, engine)
            drawn = verbose == 1
    finally:  # also where training stops early, or breaks off
        if drawn:
            sys.stderr.write("\n")
            sys.stderr.flush()


def _draw(i: int, item: Round, n_rounds: int, verbose: int, engine: Engine) -> None:
    if verbose == 1:
        done = "#" * (i * _WIDTH // n_rounds)
        sys.stderr.write(f"\r[{done:<{_WIDTH}}] round {i}/{n_rounds}  loss {item.loss:.4f} ")
        sys.stderr.flush()
    elif verbose > 1:
        if i == 1:
            print(f"clients are trained {engine.way}")
        print(
            f"round {item.round}: loss {item.loss:.4f}, {item.n_selected} clients, "
            f"{item.seconds:.3f} s"
        )
