"""Compiler options of `jax.jit` for programs that run a few times only."""

import functools
from collections.abc import Callable
from typing import Any

import jax

_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
}
"""Measured on the reference job, jaxlib 0.10: the gradient compiles in 1.5 CPU seconds instead of
10 and runs 1.8 times as long. On batches of some hundred designs the difference is milliseconds.
Without the expensive passes, compile time falls by another fifth at equal run time."""


@functools.cache
def quick_options() -> dict[str, Any]:
    """Compiler options for short compile times; empty on other backends or if XLA rejects them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1.0, compiler_options=_QUICK)(0.0)
    except (RuntimeError, ValueError):
        return {}
    return _QUICK


def quick_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` with `quick_options`, which are determined at the first call, not at import."""

    @functools.cache
    def compiled() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=quick_options(), **options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call


def search_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`quick_jit`, but with full optimization if an argument has a true attribute `runs_long`.

    Designs with searched mappings have it. `is_brief` overrides the choice for one call.

    Measured on the best mappings of ResNet-50, jaxlib 0.10: the gradient compiles in 20 CPU seconds
    instead of 5, and a design takes 12 ms instead of 45 ms.
    """
    quick, thorough = quick_jit(function, **options), jax.jit(function, **options)

    @functools.wraps(function)
    def call(*args: Any, is_brief: bool | None = None, **kwargs: Any) -> Any:
        if is_brief is None:
            is_brief = not any(getattr(argument, "runs_long", False) for argument in args)
        return (quick if is_brief else thorough)(*args, **kwargs)

    return call
