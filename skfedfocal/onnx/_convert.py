"""From a fitted estimator to a model in ONNX, by skl2onnx."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)

from skfedfocal._data.columns import without_column
from skfedfocal._estimators.classifier import FedFocalClassifier
from skfedfocal._estimators.classifier_cv import FedFocalClassifierCV
from skfedfocal._estimators.client_column import ClientColumn
from skfedfocal._estimators.general import FederatedClassifier
from skfedfocal._estimators.personalized import PersonalizedClassifier
from skfedfocal._steps import last_step
from skfedfocal.onnx._classifier import convert_classifier, write_labels
from skfedfocal.onnx._encoders import convert_encoder
from skfedfocal.onnx._graph import Graph, is_text
from skfedfocal.onnx._inputs import input_types
from skfedfocal.onnx._steps import convert_imputer, convert_quantiles, convert_scaler
from skfedfocal.preprocessing import (
    FederatedMaxAbsScaler,
    FederatedMinMaxScaler,
    FederatedOneHotEncoder,
    FederatedOrdinalEncoder,
    FederatedQuantileTransformer,
    FederatedRobustScaler,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)

_STEPS: dict[type, Any] = {
    FederatedMaxAbsScaler: convert_scaler,
    FederatedMinMaxScaler: convert_scaler,
    FederatedOneHotEncoder: convert_encoder,
    FederatedOrdinalEncoder: convert_encoder,
    FederatedQuantileTransformer: convert_quantiles,
    FederatedRobustScaler: convert_scaler,
    FederatedSimpleImputer: convert_imputer,
    FederatedStandardScaler: convert_scaler,
}
_CLASSIFIERS = (FedFocalClassifier, FedFocalClassifierCV, FederatedClassifier)
_THRESHOLDS = (FixedThresholdClassifier, TunedThresholdClassifierCV)
_AROUND = {  # what predicts by an estimator inside, and where that is
    ClientColumn: "estimator_",
    FrozenEstimator: "estimator",
    GridSearchCV: "best_estimator_",
    RandomizedSearchCV: "best_estimator_",
}


def to_onnx(estimator: Any, X: Any, *, target_opset: int = 21) -> Any:
    """Convert a fitted classifier, or a pipeline that ends in one, to ONNX.

    The model gives ``label``, what `predict` returns, and ``probabilities``, those of
    `predict_proba`, to 1e-5. Preprocessing computes in double precision, as scikit-learn does.

    Parameters
    ----------
    estimator : estimator
        Fitted: a classifier of this package, also with a `module` that `torch.onnx.export` takes; a
        Pipeline or ColumnTransformer of `skfedfocal.preprocessing` and of what skl2onnx converts; a
        `ClientColumn` or a search around these, or a classifier with a threshold (scikit-learn's
        FixedThresholdClassifier and TunedThresholdClassifierCV).
    X : array-like, frame or sparse matrix of shape (n_samples, ...)
        Rows, as they are given to `predict`: their columns and types, less the column of a
        `ClientColumn`, are those of the model's inputs. A few will do, if every column of texts has
        a text in them.
    target_opset : int, default=21
        Version of ONNX's operators, at least 19.

    Returns
    -------
    model : onnx.ModelProto
        An array is its one input ``"X"``; a frame has an input for each of its columns. Missing
        texts go in as empty texts: `onnx_inputs` sees to it. A value that an encoder with
        ``handle_unknown="error"`` does not know makes the row's probabilities NaN.

    Raises
    ------
    TypeError
        If a step has no form in ONNX, or the module has none for torch.
    ValueError
        If an encoder has the empty text as a category beside a missing one.
    ImportError
        Without skl2onnx and onnxscript.

    See Also
    --------
    register_converters : For skl2onnx's own functions.

    Examples
    --------
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.onnx import onnx_inputs, to_onnx
    >>> from skfedfocal.preprocessing import FederatedStandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> pipeline = make_pipeline(FederatedStandardScaler(), FedFocalClassifier(n_rounds=2))
    >>> model = to_onnx(pipeline.fit(X, y), X)
    >>> session = InferenceSession(model.SerializeToString())
    >>> label, probabilities = session.run(None, onnx_inputs(model, X))
    >>> bool((label == pipeline.predict(X)).all())
    True
    """
    register_converters()
    from skl2onnx import convert_sklearn

    X = without_ids(estimator, X)
    parsers: dict[Any, Any] = dict.fromkeys(_AROUND, _parse_around)
    parsers |= dict.fromkeys(_THRESHOLDS, _parse_threshold)
    return convert_sklearn(
        estimator,
        name=type(estimator).__name__,
        initial_types=input_types(X),
        target_opset={"": target_opset, "ai.onnx.ml": 3},
        options={id(_innermost(estimator)): {"zipmap": False}},
        custom_parsers=parsers,
        custom_shape_calculators=dict.fromkeys(_THRESHOLDS, _shape_of_classifier),
        custom_conversion_functions=dict.fromkeys(_THRESHOLDS, _convert_threshold),
    )


def register_converters() -> None:
    """Have skl2onnx know the classifiers and transformers of this package.

    For those who convert with its own functions: ``skl2onnx.to_onnx(pipeline, X)`` then knows them.
    `to_onnx` needs no such call.

    Raises
    ------
    ImportError
        Without skl2onnx.

    See Also
    --------
    to_onnx : Sees to types, thresholds and ids of clients as well.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> from skfedfocal.onnx import register_converters
    >>> from skfedfocal.preprocessing import FederatedMaxAbsScaler
    >>> register_converters()
    >>> X = [[1.0], [2.0]]
    >>> model = skl2onnx.to_onnx(FederatedMaxAbsScaler().fit(X), np.array(X))
    >>> [node.op_type for node in model.graph.node][:2]
    ['Cast', 'Div']
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError("To ONNX needs more: pip install 'skfedfocal[onnx]'.") from error
    for kind, convert in _STEPS.items():
        name = f"Skfedfocal{kind.__name__}"
        update_registered_converter(kind, name, _shape_of_step, convert, parser=_parse_step)
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    for kind in _CLASSIFIERS:
        name = f"Skfedfocal{kind.__name__}"
        update_registered_converter(
            kind, name, _shape_of_classifier, convert_classifier, options=options
        )
    update_registered_converter(
        PersonalizedClassifier,
        "SkfedfocalPersonalizedClassifier",
        _shape_of_classifier,
        convert_classifier,
        parser=_refuse_personalized,
    )


# -- how skl2onnx walks through --------------------------------------------------------------------


def _parse_step(scope: Any, step: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare a transformer, which gives numbers unless it fills texts."""
    from skl2onnx._supported_operators import get_model_alias
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    operator = scope.declare_local_operator(get_model_alias(type(step)), step)
    operator.inputs = inputs
    fills_texts = isinstance(step, FederatedSimpleImputer) and any(map(is_text, inputs))
    kind = StringTensorType if fills_texts else DoubleTensorType
    operator.outputs.append(scope.declare_local_variable("variable", kind()))
    return operator.outputs


def _shape_of_step(operator: Any) -> None:
    n_rows = operator.inputs[0].get_first_dimension()
    n_columns = len(operator.raw_operator.get_feature_names_out())
    operator.outputs[0].type.shape = [n_rows, n_columns]


def _shape_of_classifier(operator: Any) -> None:
    """Types and shapes of labels and probabilities."""
    from skl2onnx.common import data_types as types

    classifier, n_rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    classes = classifier.classes_
    kinds = {"f": types.DoubleTensorType, "O": types.StringTensorType, "U": types.StringTensorType}
    if classes.dtype.kind == "O" and not all(isinstance(label, str) for label in classes):
        raise TypeError(f"Labels {classes.tolist()} are not of one kind, as ONNX needs them.")
    operator.outputs[0].set_type(kinds.get(classes.dtype.kind, types.Int64TensorType)([n_rows]))
    operator.outputs[1].set_type(types.FloatTensorType([n_rows, len(classes)]))


def _refuse_personalized(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> NoReturn:
    raise TypeError(
        "PersonalizedClassifier has a model for each client; convert that of one: client_estimator."
    )


def _parse_around(scope: Any, around: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Walk into the estimator inside."""
    from skl2onnx._parse import _parse_sklearn

    if type(around) is ClientColumn and around.column_ is not None:
        shapes = [list(one.type.shape) for one in inputs]  # behind other steps not known yet
        if sum(shape[-1] for shape in shapes if shape) != around.n_features_in_ - 1:
            raise TypeError(
                "A ClientColumn behind other steps takes the ids from what they give, and a file "
                "has no ids: put the steps inside the ClientColumn."
            )
    return _parse_sklearn(scope, _inside(around), inputs, custom_parsers=custom_parsers)


def _inside(model: Any) -> Any:
    """The fitted estimator inside one that is around it; None for others."""
    if type(model) in _AROUND:
        return getattr(model, _AROUND[type(model)])
    if type(model) in _THRESHOLDS:
        return getattr(model, "estimator_", model.estimator)
    return None


def _innermost(model: Any) -> Any:
    """What gives labels and probabilities."""
    model = last_step(model)
    while (inside := _inside(model)) is not None:
        model = last_step(inside)
    return model


def without_ids(model: Any, X: Any) -> Any:
    """Rows without the column that a ClientColumn, in whatever it is, takes the ids from."""
    while model is not None:
        if type(model) is ClientColumn:
            X, place = model._table(X)
            X = X if place is None else without_column(X, place)
        model = _inside(model)
    return X


# -- thresholds ------------------------------------------------------------------------------------


def _parse_threshold(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Walk into the classifier, and declare what is decided of its probabilities."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    if model.response_method == "decision_function":
        raise TypeError(f"{type(model).__name__}(response_method='decision_function') has no form.")
    inside = _parse_sklearn(scope, _inside(model), inputs, custom_parsers=custom_parsers)
    operator = scope.declare_local_operator(type(model).__name__, model)
    operator.inputs = inside
    for name, kind in (("label", Int64TensorType), ("probabilities", FloatTensorType)):
        operator.outputs.append(scope.declare_local_variable(name, kind()))
    return operator.outputs


def _convert_threshold(scope: Any, operator: Any, container: Any) -> None:
    model, graph = operator.raw_operator, Graph(scope, operator, container)
    positive, threshold = _rule(model)
    probabilities = operator.inputs[1].full_name
    score = graph.cast(graph.take(probabilities, np.array([positive])), np.float64)
    column = graph.node("Reshape", score, graph.constant(np.array([-1])))
    above = graph.node("GreaterOrEqual", column, graph.constant(threshold))
    places = [graph.constant(np.int64(place)) for place in (positive, 1 - positive)]
    write_labels(graph, model.classes_, graph.node("Where", above, *places))
    graph.node("Identity", probabilities, out=operator.outputs[1].full_name)


def _rule(model: Any) -> tuple[int, np.float64]:
    """Which class is chosen from which probability on."""
    if isinstance(model, TunedThresholdClassifierCV):
        threshold, label = model.best_threshold_, model._curve_scorer._get_pos_label()
    else:
        threshold, label = model.threshold, model.pos_label
        threshold = 0.5 if isinstance(threshold, str) else threshold
    if not isinstance(threshold, np.floating):
        threshold = np.float32(threshold)  # as numpy compares single precision with a plain number
    positive = 1 if label is None else int(np.flatnonzero(model.classes_ == label)[0])
    return positive, np.float64(threshold)
