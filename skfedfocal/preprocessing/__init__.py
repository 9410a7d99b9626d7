"""Preprocessing from statistics that sites can share: sums, not rows."""

from skfedfocal.preprocessing._columns_of import ColumnsOf
from skfedfocal.preprocessing._imputer import FederatedSimpleImputer
from skfedfocal.preprocessing._min_max_scaler import FederatedMaxAbsScaler, FederatedMinMaxScaler
from skfedfocal.preprocessing._one_hot_encoder import FederatedOneHotEncoder
from skfedfocal.preprocessing._ordinal_encoder import FederatedOrdinalEncoder
from skfedfocal.preprocessing._quantile_transformer import FederatedQuantileTransformer
from skfedfocal.preprocessing._robust_scaler import FederatedRobustScaler
from skfedfocal.preprocessing._scaler import FederatedStandardScaler
from skfedfocal.preprocessing._table_transformer import make_table_transformer

__all__ = [
    "ColumnsOf",
    "FederatedMaxAbsScaler",
    "FederatedMinMaxScaler",
    "FederatedOneHotEncoder",
    "FederatedOrdinalEncoder",
    "FederatedQuantileTransformer",
    "FederatedRobustScaler",
    "FederatedSimpleImputer",
    "FederatedStandardScaler",
    "make_table_transformer",
]
