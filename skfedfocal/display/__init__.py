"""Pictures of a training and of its clients, drawn with matplotlib (extra `plot`).

For reliability diagrams take `sklearn.calibration.CalibrationDisplay`; it draws any class ``c`` of
any classifier here: ``from_predictions(y == c, model.predict_posterior(X)[:, c])``.
"""

from skfedfocal.display._classes import ClientClassesDisplay
from skfedfocal.display._html import estimator_html, federation_html
from skfedfocal.display._scores import ClientScoresDisplay
from skfedfocal.display._training import TrainingDisplay

__all__ = [
    "ClientClassesDisplay",
    "ClientScoresDisplay",
    "TrainingDisplay",
    "estimator_html",
    "federation_html",
]
