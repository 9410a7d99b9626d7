"""What the benchmarks use of the package beyond its public names, in this file alone."""

from __future__ import annotations

from numpy.typing import NDArray


def folds_of(seed: int, clients: NDArray, codes: NDArray, n_classes: int, n_folds: int) -> NDArray:
    """The fold of each row, as FedFocalClassifierCV draws it."""
    from skfedfocal._data.clients import ClientLayout
    from skfedfocal._training.search import stratified_folds

    layout = ClientLayout.from_ids(clients, len(codes))
    return stratified_folds(seed, layout, codes, n_classes, n_folds)


def flower_pyproject(name: str) -> str:
    """The pyproject.toml of an app, as the package writes it for its own."""
    from skfedfocal.flower._export import _PYPROJECT

    return _PYPROJECT.format(name=name, publisher="benchmark", package="federation")
