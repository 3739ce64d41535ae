"""The kinds of random networks, by name."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from autocompress.hardware.drawn.images import BLOCKS, image_net
from autocompress.hardware.drawn.net import Net, Value
from autocompress.hardware.drawn.series import recurrent_net, series_net
from autocompress.hardware.drawn.style import Style
from autocompress.hardware.drawn.tokens import perceptron, token_net

Kind = Callable[[Style, np.random.Generator], tuple[Net, Value]]
KINDS: Mapping[str, Kind] = {
    **{manner: partial(image_net, manner) for manner in BLOCKS},
    "tokens": token_net,
    "perceptron": perceptron,
    "series": series_net,
    "recurrent": recurrent_net,
}
FLOAT_ONLY = frozenset({"recurrent"})  # the runtime has no static int8 kernels for them
