"""`jax.jit` with compiler options for programs that run a few times only, and stored programs.

If the process has an open program store, a function is looked up by its contents before it is
traced; see `program_store`.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.content_key import NoContentKeyError, content_key
from hwdse.numerics.program_store import ProgramStore, active_store

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


class _Program:
    """Compiled function of flat arguments of one kind, made at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[Callable[..., Any], Any] | None = None

    def __call__(self, leaves: list[Any], make: Callable[..., tuple[Any, Any, Any]]) -> Any:
        if self._made is None:
            with self._lock:  # threads that need the same program wait for it
                if self._made is None:
                    compiled, structure, results = make(leaves)
                    self._made = compiled, structure
                    return jax.tree.unflatten(structure, results)
        compiled, structure = self._made
        return jax.tree.unflatten(structure, compiled(*leaves))


class _StoredJit:
    """Compiled function whose programs are looked up in the open program store.

    Without a store it is `jax.jit`, as for traced arguments and several devices.
    """

    def __init__(
        self, function: Callable[..., Any], static_argnames: str | Sequence[str], *, is_quick: bool
    ) -> None:
        names = (static_argnames,) if isinstance(static_argnames, str) else static_argnames
        self._function, self._static_names, self._is_quick = function, tuple(names), is_quick
        self._programs: dict[Any, _Program] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        store = active_store()
        if store is None or jax.device_count() > 1:
            return self._jitted(*args, **kwargs)
        args, kwargs, statics = self._split(args, kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        kinds = tuple(map(_kind, leaves))
        if None in kinds:
            return self._jitted(*args, **kwargs, **statics)
        identity = structure, kinds, tuple(sorted(statics.items())), jnp.result_type(float)
        program = self._programs.setdefault(identity, _Program())
        return program(leaves, functools.partial(self._make, store, structure, kinds, statics))

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @functools.cached_property
    def _jitted(self) -> Callable[..., Any]:
        return jax.jit(
            self._function, compiler_options=self._options(), static_argnames=self._static_names
        )

    def _options(self) -> dict[str, Any] | None:
        return quick_options() if self._is_quick else None

    def _split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Positional, named and static arguments; with static ones, all others are named."""
        if not self._static_names:
            return args, kwargs, {}
        named = self._signature.bind(*args, **kwargs).arguments
        statics = {name: named.pop(name) for name in self._static_names if name in named}
        return (), dict(named), statics

    def _make(
        self,
        store: ProgramStore,
        structure: Any,
        kinds: tuple[Any, ...],
        statics: dict[str, Any],
        leaves: list[Any],
    ) -> tuple[Callable[..., Any], Any, Any]:
        """Stored or compiled function of the leaves, structure of its results, and first
        results."""
        key = self._key(structure, kinds, statics)
        if key is not None and (found := store.load(key)) is not None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # not for this machine: compile
                return *found, jax.block_until_ready(found[0](*leaves))
        compiled, results_structure = self._compiled(structure, statics, leaves)
        if key is not None:
            store.save(key, compiled, len(leaves), results_structure)
        return compiled, results_structure, compiled(*leaves)

    def _key(self, structure: Any, kinds: tuple[Any, ...], statics: dict[str, Any]) -> bytes | None:
        """Content key of the function, the types of its arguments and the options."""
        arguments = jax.tree.unflatten(structure, kinds)
        settings = self._is_quick, str(jnp.result_type(float))
        try:
            return content_key(self._function, arguments, statics, settings)
        except NoContentKeyError:
            return None

    def _compiled(
        self, structure: Any, statics: dict[str, Any], leaves: list[Any]
    ) -> tuple[Any, Any]:
        """Compiled function of the leaves, and structure of its results."""
        outcome = {}

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = jax.tree.unflatten(structure, leaves)
            results = self._function(*args, **kwargs, **statics)
            values, outcome["structure"] = jax.tree.flatten(results)
            return values

        flat.__name__ = getattr(self._function, "__name__", "flat")
        lowered = jax.jit(flat, compiler_options=self._options()).lower(*leaves)
        return lowered.compile(), outcome["structure"]


def _kind(leaf: Any) -> tuple[Any, ...] | None:
    """All of an argument that a program depends on; `None` for traced and other values."""
    if type(leaf) in (bool, int, float, complex):
        return (type(leaf),)
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        return "array", leaf.shape, leaf.dtype, leaf.weak_type
    if isinstance(leaf, np.ndarray | np.generic) and not leaf.dtype.hasobject:
        return "numpy", leaf.shape, leaf.dtype
    return None


def quick_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """Compiled function with `quick_options`, which are determined at the first compilation."""
    program = _StoredJit(function, static_argnames, is_quick=True)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)

    return call


def thorough_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """Compiled function with full optimization, for programs that run long."""
    program = _StoredJit(function, static_argnames, is_quick=False)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return program(*args, **kwargs)

    return call


def search_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> Callable[..., Any]:
    """`quick_jit`, but `thorough_jit` if an argument has a true attribute `runs_long`.

    Designs with searched mappings have it. `is_brief` overrides the choice for one call.

    Measured on the best mappings of ResNet-50, jaxlib 0.10: the gradient compiles in 20 CPU seconds
    instead of 5, and a design takes 12 ms instead of 45 ms.
    """
    quick = quick_jit(function, static_argnames=static_argnames)
    thorough = thorough_jit(function, static_argnames=static_argnames)

    @functools.wraps(function)
    def call(*args: Any, is_brief: bool | None = None, **kwargs: Any) -> Any:
        if is_brief is None:
            is_brief = not any(getattr(argument, "runs_long", False) for argument in args)
        return (quick if is_brief else thorough)(*args, **kwargs)

    return call
