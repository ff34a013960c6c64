"""The one place where effects meet."""

from hwdse.system.evaluate import Workload, evaluate
from hwdse.system.rows import peak_flop_per_s, row_costs, vector_rate_flop_per_s

__all__ = [
    "Workload",
    "evaluate",
    "peak_flop_per_s",
    "row_costs",
    "vector_rate_flop_per_s",
]
