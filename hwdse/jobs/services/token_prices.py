r"""Energy and cost of one input, cached and output token of a service.

A request costs $E = P / r$ with the power P (or dollars per second) of all chips and the request
rate r. A price is the derivative of E by the tokens of its kind, $e_i$, scaled such that the prices
times the tokens of a request make up E: $p_i = e_i E / \sum_j n_j e_j$. A cached input token is one
more input token that is in memory already.
"""

import dataclasses
from collections.abc import Mapping

import jax

from hwdse.evaluation import evaluate_exact
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign
from hwdse.workload.serving.serving_task import ServingTask

STEP = 0.02
"""Relative change of the tokens of a request for the derivatives."""
PER_REQUEST = {
    "energy_j": "energy_per_token_j",
    "cost_usd": "cost_per_token_usd",
}
"""Fields of an evaluation, per output token, of which prices are told."""


def token_prices(
    design: ServingDesign, task: ServingTask, evaluation: Evaluation
) -> Mapping[str, Mapping[str, float]]:
    """Price of one `input`, `cached_input` and `output` token, by figure of `PER_REQUEST`.

    `evaluation` is that of the design. Derivatives are central differences of the compiled model,
    which cost milliseconds where compiling a gradient takes minutes. A negative derivative (a
    longer answer may spread the work of prompts) counts as no price.
    """
    requests = jax.tree.map(float, task.requests)
    fresh = requests.input_tokens - requests.cached_input_tokens
    step = STEP * requests.input_tokens
    longer = STEP * requests.output_tokens
    changes = {
        "input": ({"input_tokens": step}, step),
        "cached_input": ({"input_tokens": step, "cached_input_tokens": step}, step),
        "output": ({"output_tokens": longer}, longer),
    }
    tokens = {
        "input": fresh,
        "cached_input": requests.cached_input_tokens,
        "output": requests.output_tokens,
    }

    def per_request(found: Evaluation, output_tokens: float) -> dict[str, float]:
        return {name: getattr(found, field) * output_tokens for name, field in PER_REQUEST.items()}

    def moved(change: Mapping[str, float], sign: float) -> dict[str, float]:
        other = requests.replace(
            **{name: getattr(requests, name) + sign * value for name, value in change.items()}
        )
        found = evaluate_exact(design, dataclasses.replace(task, requests=other))
        return per_request(found, other.output_tokens)

    whole = per_request(evaluation, requests.output_tokens)
    slopes: dict[str, dict[str, float]] = {name: {} for name in PER_REQUEST}
    for kind, (change, width) in changes.items():
        up, down = moved(change, 1.0), moved(change, -1.0)
        for name in PER_REQUEST:
            slopes[name][kind] = max((up[name] - down[name]) / (2.0 * width), 0.0)
    prices = {}
    for name, of_kind in slopes.items():
        explained = sum(tokens[kind] * slope for kind, slope in of_kind.items())
        scale = whole[name] / explained if explained > 0.0 else 0.0
        prices[name] = {kind: scale * slope for kind, slope in of_kind.items()}
    return prices
