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
from jax.core import Tracer

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
    """Compiled function of flat arguments of one kind, loaded or compiled at the first call."""

    def __init__(
        self,
        load: Callable[[], tuple[Any, Any] | None],
        compile_for: Callable[[list[Any]], tuple[Any, Any]],
    ) -> None:
        self._lock = threading.RLock()
        self._load, self._compile_for = load, compile_for
        self._made: tuple[Callable[..., Any], Any] | None = None
        self._has_run = False

    def prepare(self, leaves: list[Any]) -> tuple[Callable[..., Any], Any]:
        """Compiled function and structure of its results; threads that need the same program
        wait for it."""
        if self._made is None:
            with self._lock:
                if self._made is None:
                    found = self._load()
                    self._has_run = found is None
                    self._made = self._compile_for(leaves) if found is None else found
        return self._made

    def __call__(self, leaves: list[Any]) -> Any:
        compiled, structure = self.prepare(leaves)
        results = compiled(*leaves) if self._has_run else self._first_results(leaves)
        return jax.tree.unflatten(structure, results)

    def _first_results(self, leaves: list[Any]) -> list[Any]:
        """Results of a loaded program, which is compiled if it does not run on this machine."""
        with self._lock:
            compiled, structure = self.prepare(leaves)
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                results = jax.block_until_ready(compiled(*leaves))
                self._has_run = True
                return results
            self._made, self._has_run = (self._compile_for(leaves)[0], structure), True
            return self._made[0](*leaves)


class CompiledFunction:
    """Compiled function whose programs are looked up in the open program store.

    Without a store it is `jax.jit`, as for traced arguments and several devices.
    """

    def __init__(
        self, function: Callable[..., Any], static_argnames: str | Sequence[str], *, is_quick: bool
    ) -> None:
        names = (static_argnames,) if isinstance(static_argnames, str) else static_argnames
        self._function, self._static_names, self._is_quick = function, tuple(names), is_quick
        self._programs: dict[Any, _Program] = {}
        functools.update_wrapper(self, function)

    @property
    def program_key(self) -> tuple[Any, ...]:
        """All that distinguishes this function from other compiled functions."""
        return self._function, self._static_names, self._is_quick

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self._found(args, kwargs)
        if found is None:
            return self._jitted(*args, **kwargs)
        program, leaves = found
        return program(leaves)

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Load or compile the program for arguments of these kinds, in the thread of the caller.

        Without effect if the process has no program store.
        """
        if (found := self._found(args, kwargs)) is not None:
            program, leaves = found
            program.prepare(leaves)

    def _found(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[_Program, list[Any]] | None:
        """Program for these arguments, and its flat arguments; `None` where `jax.jit` serves."""
        store = active_store()
        if store is None or jax.device_count() > 1:
            return None
        args, kwargs, statics = self._split(args, kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        kinds = tuple(map(_kind, leaves))
        if None in kinds:
            return None
        identity = structure, kinds, tuple(sorted(statics.items())), jnp.result_type(float)
        program = self._programs.get(identity)
        if program is None:
            key = functools.cache(functools.partial(self._key, structure, kinds, statics))
            program = _Program(
                lambda: None if (made := key()) is None else store.load(made),
                functools.partial(self._compile, store, key, structure, statics),
            )
            program = self._programs.setdefault(identity, program)
        return program, leaves

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

    def _key(self, structure: Any, kinds: tuple[Any, ...], statics: dict[str, Any]) -> bytes | None:
        """Content key of the function, the types of its arguments and the options."""
        arguments = jax.tree.unflatten(structure, kinds)
        settings = self._is_quick, str(jnp.result_type(float))
        try:
            return content_key(self._function, arguments, statics, settings)
        except NoContentKeyError:
            return None

    def _compile(
        self,
        store: ProgramStore,
        key: Callable[[], bytes | None],
        structure: Any,
        statics: dict[str, Any],
        leaves: list[Any],
    ) -> tuple[Callable[..., Any], Any]:
        """Compiled function of the leaves, and structure of its results."""
        outcome = {}

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = jax.tree.unflatten(structure, leaves)
            results = self._function(*args, **kwargs, **statics)
            values, outcome["structure"] = jax.tree.flatten(results)
            return values

        flat.__name__ = getattr(self._function, "__name__", "flat")
        compiled = jax.jit(flat, compiler_options=self._options()).lower(*leaves).compile()
        if (own_key := key()) is not None:
            store.save(own_key, compiled, len(leaves), outcome["structure"])
        return compiled, outcome["structure"]


def _kind(leaf: Any) -> tuple[Any, ...] | None:
    """All of an argument that a program depends on; `None` for traced and other values."""
    if type(leaf) in (bool, int, float, complex):
        return (type(leaf),)
    if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
        return "array", leaf.shape, leaf.dtype, leaf.weak_type
    if isinstance(leaf, np.ndarray | np.generic) and not leaf.dtype.hasobject:
        return "numpy", leaf.shape, leaf.dtype
    return None


def quick_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> CompiledFunction:
    """Compiled function with `quick_options`, which are determined at the first compilation."""
    return CompiledFunction(function, static_argnames, is_quick=True)


def thorough_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> CompiledFunction:
    """Compiled function with full optimization, for programs that run long."""
    return CompiledFunction(function, static_argnames, is_quick=False)


class SearchFunction:
    """`quick_jit` of a function, or `thorough_jit` if an argument has a true attribute `runs_long`.

    Designs with searched mappings have it. `is_brief` overrides the choice for one call.

    Measured on the best mappings of ResNet-50, jaxlib 0.10: the gradient compiles in 20 CPU seconds
    instead of 5, and a design takes 12 ms instead of 45 ms.
    """

    def __init__(self, function: Callable[..., Any], static_argnames: str | Sequence[str]) -> None:
        self._quick = quick_jit(function, static_argnames=static_argnames)
        self._thorough = thorough_jit(function, static_argnames=static_argnames)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, is_brief: bool | None = None, **kwargs: Any) -> Any:
        return self._chosen(args, is_brief)(*args, **kwargs)

    def prepare(self, *args: Any, is_brief: bool | None = None, **kwargs: Any) -> None:
        """Load or compile the program of a call without running it."""
        self._chosen(args, is_brief).prepare(*args, **kwargs)

    def _chosen(self, args: tuple[Any, ...], is_brief: bool | None) -> CompiledFunction:
        if is_brief is None:
            is_brief = not any(getattr(argument, "runs_long", False) for argument in args)
        return self._quick if is_brief else self._thorough


def search_jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = ()
) -> SearchFunction:
    """Compiled function whose compile time fits how long its program runs."""
    return SearchFunction(function, static_argnames)
