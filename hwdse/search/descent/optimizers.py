"""Optimizers of the descent and their learning-rate schedules, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import optax

ADAM_DECAYS = (0.8, 0.95)
"""Short memories for short searches: tuned on the 8-D and 29-D test problems."""
FINAL_RATE_FRACTION = 0.05
WEIGHT_DECAY = 1e-4
"""Weight decay of adamw: pulls logits towards the center of their ranges (default of Optax)."""
MOMENTUM = 0.8
MAX_GRADIENT_NORM = 1e3


@dataclass(frozen=True)
class OptimizerRule:
    """Gradient transformation, and default initial learning rate."""

    make: Callable[[], optax.GradientTransformation]
    learning_rate: float


def _adamw() -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(WEIGHT_DECAY)
    return optax.chain(optax.scale_by_adam(*ADAM_DECAYS), decay)


OPTIMIZERS: Mapping[str, OptimizerRule] = MappingProxyType(
    {
        "adam": OptimizerRule(lambda: optax.scale_by_adam(*ADAM_DECAYS), 0.6),
        "adamw": OptimizerRule(_adamw, 0.6),
        "adabelief": OptimizerRule(lambda: optax.scale_by_belief(*ADAM_DECAYS), 0.6),
        "amsgrad": OptimizerRule(lambda: optax.scale_by_amsgrad(*ADAM_DECAYS), 0.6),
        "nadam": OptimizerRule(lambda: optax.scale_by_adam(*ADAM_DECAYS, nesterov=True), 0.6),
        "radam": OptimizerRule(lambda: optax.scale_by_radam(*ADAM_DECAYS), 0.6),
        "yogi": OptimizerRule(lambda: optax.scale_by_yogi(*ADAM_DECAYS), 0.6),
        "rmsprop": OptimizerRule(lambda: optax.scale_by_rms(ADAM_DECAYS[1]), 0.3),
        "lion": OptimizerRule(lambda: optax.scale_by_lion(*ADAM_DECAYS), 0.3),
        "sgd": OptimizerRule(optax.identity, 1.0),
        "momentum": OptimizerRule(lambda: optax.trace(MOMENTUM), 0.3),
        "nesterov": OptimizerRule(lambda: optax.trace(MOMENTUM, nesterov=True), 0.3),
    }
)
"""Optimizers by name. Rates are in logits of the unit interval; that of adam was tuned, the others
are scaled from it."""

SCHEDULES: Mapping[str, Callable[[int], optax.Schedule]] = MappingProxyType(
    {
        "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps, FINAL_RATE_FRACTION),
        "constant": lambda steps: optax.constant_schedule(1.0),
        "linear": lambda steps: optax.linear_schedule(1.0, FINAL_RATE_FRACTION, steps),
        "exponential": lambda steps: optax.exponential_decay(1.0, steps, FINAL_RATE_FRACTION),
    }
)
"""Learning-rate factor per step; all but the constant schedule end at 5 %."""


def checked_rate(name: str, schedule: str, learning_rate: float | None) -> float:
    """Initial learning rate, by default that of the optimizer; `ValueError` for unknown names."""
    make_optimizer(name, schedule, 1)
    return OPTIMIZERS[name].learning_rate if learning_rate is None else learning_rate


def make_optimizer(name: str, schedule: str, num_steps: int) -> optax.GradientTransformation:
    """Optimizer by name with a rate factor that starts at one; large gradients are clipped.

    Raises `ValueError` for names that are not in `OPTIMIZERS` and `SCHEDULES`.
    """
    for kind, value, allowed in (
        ("optimizer", name, OPTIMIZERS),
        ("schedule", schedule, SCHEDULES),
    ):
        if value not in allowed:
            raise ValueError(f"{kind} = {value!r}: expected one of {', '.join(allowed)}")
    return optax.chain(
        optax.clip_by_global_norm(MAX_GRADIENT_NORM),
        OPTIMIZERS[name].make(),
        optax.scale_by_learning_rate(SCHEDULES[schedule](num_steps)),
    )
