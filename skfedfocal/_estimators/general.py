"""The general estimator: federated averaging with any loss."""

from __future__ import annotations

from numbers import Real
from typing import Any

from skfedfocal._component import resolve
from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._sklearn import Interval, StrOptions
from skfedfocal.losses import LOSSES, Loss


class FederatedClassifier(BaseFederatedClassifier):
    """Classifier trained by federated averaging, with any loss.

    The general form, for comparing methods; `FedFocalClassifier` is the named one for imbalanced
    data. Each round, the clients selected train the global model on their own rows, and the server
    combines their updates.

    Parameters
    ----------
    hidden_layer_sizes : int or tuple of int, default=(100,)
        Widths of the hidden layers of the default module, an MLP with ReLU; a number is one layer.
        Ignored where `module` is given.
    module : callable, torch.nn.Module or None, default=None
        None for the MLP; a callable ``(n_features, n_classes) -> Module``, which is given the shape
        of a row instead of ``n_features`` where X has more than two dimensions; or a Module, which
        is copied. It must map rows ``(batch, ...)`` to logits ``(batch, n_classes)``. Computation
        is in the type of its parameters.
    numeric_encoding : str, NumericEncoding or None, default="auto"
        What columns become before the MLP, from sums over the clients: "standard" is mean 0 and
        deviation 1; "auto" that where columns are not of order 1, up to 256 of them;
        "piecewise_linear" adds how far into each of 16 bins between quantiles a value is. None is
        rows as they are; so is "auto" for sparse rows, more dimensions, a `module` of one's own and
        under `privacy`, where others are refused. See `skfedfocal.encodings`.
    loss : str or Loss, default="cross_entropy"
        "cross_entropy", "focal", "ldam", "logit_adjusted", "sample_dependent_focal" or an object
        from `skfedfocal.losses`.
    class_weight : dict, "balanced", "local", "effective", "estimated" or None, default=None
        Weight of each row's loss by its class. "balanced" makes every class weigh the same, from
        label counts summed over the clients: that one vector is disclosed to the server. "local"
        does so on each client from its own counts: nothing leaves it. "effective" weighs by the
        effective number of rows, from summed counts. "estimated" is "balanced" with the class
        frequencies read off the aggregate of one update instead of counts; it tells the server as
        much, without a message of its own. A dict maps labels to weights; classes not in it
        weigh 1.
    client_gamma : float, default=0.0
        Client focusing: clients weigh ``n_k * (1 - r_k) ** client_gamma``, with r_k the share of
        their rows, weighed by class, that the global model gets right, estimated, smoothed and
        bounded as in `skfedfocal.aggregation.WeightedMean`. Above 0 the weight discloses r_k each
        round. Only the weighted mean has it: set 0 beside another aggregation.
    strategy : str or Strategy, default="fedavg"
        The server's step: "fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi" or an
        object from `skfedfocal.strategies`.
    aggregation : str or Aggregator, default="mean"
        How updates are combined: "mean", "bucketing", "clipped_mean", "geometric_median", "krum",
        "median", "trimmed_mean" or an object from `skfedfocal.aggregation`.
        Beside all but the mean, the largest label counts of each class are not believed, and the
        server is told each client's.
    selection : str or Selection, default="uniform"
        Which clients take part in a round: "category_coverage", "focal", "uniform" or an object
        from `skfedfocal.selection`.
    clients_per_round : float or int, default=1.0
        Share of the clients (float in (0, 1]) or their number (int) in each round.
    min_clients : int, default=1
        Good replies without which a round ends the training, or all of its cohort where that is
        smaller. A client whose update is not finite, or on whose rows the module raises, is left
        out of the round, warned of once, and listed in `failures_`.
    n_rounds : int, default=100
        Rounds of federated training.
    n_local_epochs : int, default=1
        Passes of a client over its rows in a round.
    batch_size : int, default=32
        Rows of a step of local SGD.
    learning_rate : float or "auto", default="auto"
        Length of a step of local SGD. "auto" is 0.1, and under `ExampleLevelDP`, whose steps are
        few, of many rows each, and clipped, 4, or as much less as keeps the noise of a step at
        0.02 a parameter.
    momentum : float, default=0.0
        Momentum of local SGD, in [0, 1); it starts anew each round.
    weight_decay : float, default=0.0
        L2 penalty of the local objective, at least 0.
    average_rounds : int, default=1
        The fitted model is the mean of the global models of the last so many rounds.
    early_stopping : bool, default=False
        Whether to hold out validation rows on each client, stop when their loss no longer falls,
        and return to the best round. After each round the new model is sent to all clients, or to
        the same 1,000 of them throughout if there are more. Discloses the sum of their validation
        losses.
    validation_fraction : float, default=0.1
        Share of each client's rows of each class held out, in (0, 1). Only with early stopping.
    n_iter_no_change : int, default=10
        Rounds without a fall of the validation loss by `tol` before training stops. Only with
        early stopping.
    tol : float, default=1e-4
        Fall of the validation loss that counts, at least 0. Only with early stopping.
    secure_aggregation : bool or SecureAggregation, default=False
        Whether the server gets sums over clients alone, by the protocol of
        `skfedfocal.privacy.SecureAggregation`, an object of which sets its terms. It excludes
        aggregations other than "mean", selections other than "uniform", and cohorts of fewer than
        3 clients. Needs the package cryptography (extra ``privacy``).
    engine : {"vectorized", "loop"}, default="vectorized"
        How clients are trained in this process. All give the same numbers; "loop" is slow and
        plain.
    device : str, default="auto"
        "cpu", "cuda", "mps", or "auto" for an accelerator if there is one.
    warm_start : bool, default=False
        Whether `fit` goes on from the present model, for `n_rounds` more rounds.
    verbose : int, default=0
        1 draws a progress bar, 2 prints a line a round.
    random_state : int, RandomState instance or None, default=None
        Seed of initial parameters, selection and shuffling.
    privacy : ExampleLevelDP, ClientLevelDP or None, default=None
        Differential privacy of single rows or of whole clients, from `skfedfocal.privacy`, which
        the model and all that is known of its training then has; what it does not cover is refused.
        Under `ExampleLevelDP`, `n_local_epochs` is the number of steps of a client in a round, each
        on rows drawn by chance, and `batch_size` plays no part.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    clients_ : ndarray of shape (n_clients,)
        Client ids, in order of first appearance.
    client_sizes_ : ndarray of shape (n_clients,)
        Sum of sample weights (number of rows) of each client.
    class_prior_ : ndarray of shape (n_classes,) or None
        Share of each class in the training rows, where label counts were summed.
    history_ : dict of ndarrays of shape (n_iter_,)
        Row by round: round, loss, n_selected, n_failed, bytes_down, bytes_up, seconds, and
        validation_loss with early stopping.
    failures_ : list of dict
        ``{"round": ..., "client": ..., "reason": ...}`` of each reply that was missing or left out.
    n_iter_ : int
        Rounds trained.
    module_ : torch.nn.Module
        The trained module, in evaluation mode, behind the encoder if there is one.
    encoder_ : RowEncoder or None
        What rows go through before the MLP; None where they stay as they are.
    theta_ : ndarray of shape (n_parameters,)
        Its trainable parameters as one vector.
    training_state_ : dict
        All that later rounds depend on, from which `warm_start` and `partial_fit` go on.
    epsilon_, delta_ : float
        What all that was released has spent. Only with `privacy`; then also ``epsilon`` by round in
        `history_`, whose losses are NaN, and sizes of clients are noisy or NaN.
    privacy_ : dict
        The ledger that this was computed from, as JSON can hold it; `skfedfocal.privacy.Ledger`
        reads it. Only with `privacy`.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    Notes
    -----
    In-process training discloses nothing to anyone; what is said of disclosure is what the server
    would see with the clients at several sites: each selected client's model update, its number of
    rows, its training loss and, with class weights, the mean weight of its rows, every round.

    References
    ----------
    .. [1] B. McMahan et al., "Communication-efficient learning of deep networks from decentralized
       data", AISTATS 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skfedfocal import FederatedClassifier, iid_partition
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> clients = iid_partition(y, 5, random_state=0)
    >>> model = make_pipeline(StandardScaler(), FederatedClassifier(n_rounds=10, random_state=0))
    >>> model = model.fit(X, y, federatedclassifier__clients=clients)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints = {
        **BaseFederatedClassifier._parameter_constraints,
        "class_weight": BaseFederatedClassifier._class_weight_constraint,
        "secure_aggregation": BaseFederatedClassifier._secure_aggregation_constraint,
        "warm_start": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "loss": [StrOptions(set(LOSSES)), Loss],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        module: Any = None,
        numeric_encoding: Any = "auto",
        loss: Any = "cross_entropy",
        class_weight: Any = None,
        client_gamma: float = 0.0,
        strategy: Any = "fedavg",
        aggregation: Any = "mean",
        selection: Any = "uniform",
        clients_per_round: float = 1.0,
        min_clients: int = 1,
        n_rounds: int = 100,
        n_local_epochs: int = 1,
        batch_size: int = 32,
        learning_rate: Any = "auto",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_rounds: int = 1,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        secure_aggregation: Any = False,
        engine: str = "vectorized",
        device: str = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
        privacy: Any = None,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            module=module,
            numeric_encoding=numeric_encoding,
            client_gamma=client_gamma,
            strategy=strategy,
            aggregation=aggregation,
            selection=selection,
            clients_per_round=clients_per_round,
            min_clients=min_clients,
            n_rounds=n_rounds,
            n_local_epochs=n_local_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            average_rounds=average_rounds,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            engine=engine,
            device=device,
            verbose=verbose,
            random_state=random_state,
            privacy=privacy,
        )
        self.loss = loss
        self.class_weight = class_weight
        self.secure_aggregation = secure_aggregation
        self.warm_start = warm_start

    def _resolve_loss(self) -> Loss:
        return resolve(self.loss, LOSSES, Loss, "loss")

    def _class_weight(self) -> Any:
        return self.class_weight
