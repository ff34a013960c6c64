"""Serving task: a model and the requests to it."""

from hwdse.numerics import struct
from hwdse.specs.serving.requests import Requests
from hwdse.workload.transformer.model_config import Transformer


@struct.dataclass
class ServingTask:
    """A model and the requests to it."""

    model: Transformer
    """Transformer model."""
    requests: Requests
    """Requests."""
