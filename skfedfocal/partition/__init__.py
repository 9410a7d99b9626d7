"""Partition the rows of a data set over clients, as one array of client ids.

Every function here reads labels and returns ``clients``, one integer client id
per row: what ``fit(X, y, clients=clients)``, scikit-learn's ``groups`` and the
plots take. All four share the signature ``(y, n_clients, *, ..., random_state)``
and are interchangeable. Rows are never dropped, repeated or reordered.
"""

from skfedfocal.partition._by_label import dirichlet_partition, shard_partition
from skfedfocal.partition._by_size import iid_partition, quantity_skew_partition

__all__ = [
    "dirichlet_partition",
    "iid_partition",
    "quantity_skew_partition",
    "shard_partition",
]
