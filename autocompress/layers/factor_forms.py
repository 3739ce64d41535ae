"""The ways to factorize a layer, by the names that recipes use."""

from collections.abc import Mapping
from enum import StrEnum

from autocompress.layers.cp_conv import CP
from autocompress.layers.factor_form import Form
from autocompress.layers.low_rank import SVD
from autocompress.layers.spatial_pair import SPATIAL_SVD
from autocompress.layers.tucker_conv import TUCKER2


class Method(StrEnum):
    """How a weight is factorized."""

    SVD = "svd"
    SPATIAL_SVD = "spatial_svd"
    TUCKER2 = "tucker2"
    CP = "cp"


FORMS: Mapping[Method, Form] = {
    Method.SVD: SVD,
    Method.SPATIAL_SVD: SPATIAL_SVD,
    Method.TUCKER2: TUCKER2,
    Method.CP: CP,
}
