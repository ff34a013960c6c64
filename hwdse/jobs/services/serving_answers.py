"""Answers about one service beyond its evaluation: prices of tokens, elasticities."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from hwdse.evaluation import evaluate_exact
from hwdse.jobs.services.token_prices import token_prices
from hwdse.numerics import struct
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign
from hwdse.workload.serving.serving_task import ServingTask

LEVERS: Mapping[str, str] = MappingProxyType(
    {
        "HBM bandwidth": "chip.hbm.bandwidth_bytes_per_s",
        "HBM capacity": "chip.hbm.capacity_bytes",
        "clock of the engines": "chip.array.clock_hz",
        "scale-up bandwidth": "chip.link.bandwidth_bytes_per_s",
        "start of collectives": "engine.collective_launch_s",
        "start of kernels": "kernels.start_s",
        "host time per step": "engine.step_host_s",
        "power limit": "chip.power_limit_w",
    }
)
"""Constants whose elasticities are told, by their name on the page."""
FIGURES = ("ttft_s", "tpot_s", "chip_tokens_per_s", "energy_per_token_j")
"""Fields of an evaluation of which elasticities are told."""
STEP = 0.02
"""Relative change of a constant for its elasticity."""


@struct.dataclass
class ServiceAnswer:
    """A service in full; leaves are Python floats."""

    evaluation: Evaluation
    prices: Mapping[str, Mapping[str, float]]
    """J and USD per input, cached input and output token, see `token_prices`."""
    elasticities: Mapping[str, Mapping[str, float]]
    """d ln figure / d ln constant, by name of `LEVERS` and field of `FIGURES`."""


def service_answer(design: ServingDesign, task: ServingTask) -> ServiceAnswer:
    """Evaluation, prices and elasticities of a service, in float64."""
    evaluation = evaluate_exact(design, task)
    return ServiceAnswer(
        evaluation=evaluation,
        prices=token_prices(design, task, evaluation),
        elasticities=elasticities(design, task),
    )


def elasticities(design: ServingDesign, task: ServingTask) -> dict[str, dict[str, float]]:
    """Elasticities of the figures by central differences of the compiled model.

    Constants that the design does not set, or that are 0, are left out. Those of all constants by a
    gradient are in `analysis.metric_slopes`; it takes minutes to compile for a service.
    """
    found = {}
    for name, path in LEVERS.items():
        value = get_path(design, path)
        if value is None or float(value) <= 0.0:
            continue
        low, high = (
            evaluate_exact(set_path(design, path, float(value) * f), task) for f in _FACTORS
        )
        found[name] = {
            figure: math.log(getattr(high, figure) / getattr(low, figure)) / _WIDTH
            for figure in FIGURES
        }
    return found


_FACTORS = (1.0 - STEP, 1.0 + STEP)
_WIDTH = math.log(_FACTORS[1] / _FACTORS[0])
