"""Shares drawn from a Dirichlet law, in whole rows."""

import numpy as np


def split_classes(codes, n_clients, alpha, min_rows, rng):
    """Split each class by shares of the law Dirichlet(alpha), with one alpha or one per client."""
    ids = np.arange(n_clients, dtype=np.int64)
    owners = [
        np.repeat(ids, dirichlet_counts(class_size, n_clients, alpha, rng))
        for class_size in np.bincount(codes)
    ]
    clients = np.empty_like(ids, shape=codes.shape)
    clients[shuffled_argsort(codes, rng)] = np.concatenate(owners)
    return raise_to_min_rows(clients, n_clients, min_rows, rng)


def dirichlet_counts(n_rows, n_clients, alpha, rng):
    """Draw Dirichlet shares and round them, without bias, to counts that add to n_rows."""
    # Below this bound, where the division overflows, one client has everything anyhow.
    alpha = np.maximum(alpha, 1e-300)
    # Gamma(alpha) is Gamma(alpha + 1) * U**(1/alpha). In logarithms, because for a small
    # alpha every draw underflows to 0 and their shares would be 0/0.
    uniforms = 1.0 - rng.random(n_clients)
    log_draws = np.log(rng.standard_gamma(alpha + 1.0, n_clients)) + np.log(uniforms) / alpha
    bounds = np.cumsum(np.exp(log_draws - log_draws.max()))
    # One random offset for all bounds (systematic sampling) rounds each count down or up
    # with the right expectation while the sum stays exact.
    bounds = np.floor(bounds / bounds[-1] * n_rows + rng.random()).astype(np.int64)
    counts = np.diff(np.minimum(bounds, n_rows), prepend=0)
    # Neighbours share the offset; the shuffle makes clients of one alpha exchangeable again.
    return counts if np.ndim(alpha) else rng.permutation(counts)


def raise_to_min_rows(clients, n_clients, min_rows, rng):
    """Move just the rows that are missing from the largest clients to those below min_rows."""
    sizes = np.bincount(clients, minlength=n_clients)
    missing = np.maximum(min_rows - sizes, 0)
    if not missing.any():
        return clients
    given = _lower_largest(sizes, missing.sum(), rng)
    first_rows = np.cumsum(sizes) - sizes
    ranks = np.arange(clients.shape[0]) - np.repeat(first_rows, sizes)
    # Left grouped by giver: a mix of many givers' rows would make the receivers iid.
    moved = shuffled_argsort(clients, rng)[ranks < np.repeat(given, sizes)]
    clients[moved] = np.repeat(np.arange(n_clients), missing)
    return clients


def _lower_largest(sizes, n_moved, rng):
    """Rows that each client gives so that n_moved are freed and the largest are level."""
    descending = np.sort(sizes)[::-1]
    # Lowering to a level frees max_j(sum of the j largest - j * level) rows, hence the
    # highest level that frees enough. It is never below min_rows, since rows suffice.
    level = np.max((np.cumsum(descending) - n_moved) // np.arange(1, sizes.shape[0] + 1))
    given = np.maximum(sizes - level, 0)
    # Less than one row per giver too many was freed; random givers keep one.
    keepers = rng.permutation(np.flatnonzero(given))[: given.sum() - n_moved]
    given[keepers] -= 1
    return given


def shuffled_argsort(codes, rng):
    """Row indices sorted by code, in random order within a code."""
    shuffled = rng.permutation(codes.shape[0])
    return shuffled[np.argsort(codes[shuffled], kind="stable")]
