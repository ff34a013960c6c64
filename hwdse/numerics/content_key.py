"""Content keys of functions and values: equal keys mean equal programs after tracing.

`jax.jit` knows a function by identity, which a new process does not have. The key of a function
covers its code, default arguments and the contents of its closure, recursively. Values that cannot
be described completely have no key, so that two different programs never share one.

Assumes that functions of this package and of `LIBRARIES` read no global state that changes while a
process runs. Their source files and versions are part of the key of a stored program.
"""

import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

LIBRARIES = ("jax", "jaxlib", "numpy", "optax")
"""Packages whose functions are known by name and version."""
OWN = __name__.partition(".")[0]

_EXACT_TYPES = (bool, int, float, complex, str, bytes, type(None), type(...))


class NoContentKeyError(Exception):
    """A value without a complete description, for example a function of another package."""


def content_key(*values: Any) -> bytes:
    """Digest of the contents of values; raises `NoContentKeyError` if a value has none.

    Objects with an attribute `program_key` are described by it and by their class.
    """
    return _Describer().digest(values)


class _Describer:
    """Digests of nested values; each object is visited once."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, bytes]] = {}
        self._open: dict[int, int] = {}

    def digest(self, value: Any) -> bytes:
        """Digest of a value."""
        if type(value) in _EXACT_TYPES:
            return _hash(type(value).__name__, repr(value))
        if id(value) in self._done:
            return self._done[id(value)][1]
        if id(value) in self._open:
            return _hash("enclosing", str(len(self._open) - self._open[id(value)]))
        self._open[id(value)] = len(self._open)
        found = self._described(value)
        del self._open[id(value)]
        self._done[id(value)] = value, found
        return found

    def _all(self, kind: str, values: Iterable[Any]) -> bytes:
        return _hash(kind, *(self.digest(value) for value in values))

    def _described(self, value: Any) -> bytes:
        if (name := _public_name(value)) is not None:
            return _hash("name", *name)
        for types_, describe in self._describers():
            if isinstance(value, types_):
                return describe(value)
        if hasattr(value, "program_key"):
            return self._all("object", (type(value), value.program_key))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
            return self._all("dataclass", (type(value), *fields))
        if type(value) is object:  # a mark such as the missing name of an axis
            return _hash("mark", *_mark_name(value))
        if _is_plain_object(value):
            return self._all("object", (type(value), vars(value)))
        raise NoContentKeyError(f"{type(value).__module__}.{type(value).__qualname__}")

    def _describers(self) -> tuple[tuple[Any, Callable[[Any], bytes]], ...]:
        return (
            (enum.Enum, lambda v: self._all("enum", (type(v), v.name))),
            (types.FunctionType, self._function),
            (types.MethodType, lambda v: self._all("method", (v.__func__, v.__self__))),
            (types.CodeType, self._code),
            (types.CellType, self._cell),
            (functools.partial, lambda v: self._all("partial", (v.func, v.args, v.keywords))),
            (functools._lru_cache_wrapper, lambda v: self._all("cached", (v.__wrapped__,))),
            ((tuple, list), lambda v: self._all(type(v).__name__, (_class_of(v), *v))),
            (Mapping, lambda v: self._all("mapping", v.items())),
            ((set, frozenset), lambda v: _hash("set", *sorted(map(self.digest, v)))),
            (PurePath, lambda v: _hash("path", str(v))),
            ((np.ndarray, np.generic, jax.Array), _array),
            (np.dtype, lambda v: _hash("dtype", str(v))),
            (types.ModuleType, _module),
        )

    def _function(self, function: types.FunctionType) -> bytes:
        package = str(function.__globals__.get("__name__")).partition(".")[0]
        if package not in (OWN, "functools", *LIBRARIES):
            raise NoContentKeyError(f"{function.__module__}.{function.__qualname__}")
        version = getattr(sys.modules[package], "__version__", "")
        defaults = function.__defaults__, function.__kwdefaults__, function.__closure__
        return self._all("function", (package, version, function.__code__, *defaults))

    def _code(self, code: types.CodeType) -> bytes:
        names = code.co_qualname, code.co_firstlineno, code.co_names, code.co_freevars
        return self._all("code", (code.co_code, code.co_consts, *names))

    def _cell(self, cell: types.CellType) -> bytes:
        try:
            return self._all("cell", (cell.cell_contents,))
        except ValueError:  # not assigned yet
            return _hash("empty cell")


def _class_of(value: Any) -> type | None:
    """Class of a named tuple; `None` for the built-in type, of which other subclasses have no
    key."""
    if type(value) in (tuple, list):
        return None
    if not hasattr(value, "_fields"):
        raise NoContentKeyError(type(value).__qualname__)
    return type(value)


def _mark_name(mark: object) -> tuple[str, str]:
    """First module and name of a bare object in a library."""
    for module_name in sorted(sys.modules):
        if module_name.partition(".")[0] in (OWN, *LIBRARIES):
            for name, value in sorted(vars(sys.modules[module_name]).items()):
                if value is mark:
                    return module_name, name
    raise NoContentKeyError("an object without a name")


def _module(module: types.ModuleType) -> bytes:
    if module.__name__.partition(".")[0] not in (OWN, *LIBRARIES):
        raise NoContentKeyError(module.__name__)
    return _hash("module", module.__name__, str(getattr(module, "__version__", "")))


def _is_plain_object(value: Any) -> bool:
    """True if the attributes of an object are all of it: a class of this package that extends no
    built-in type."""
    packages = {base.__module__.partition(".")[0] for base in type(value).__mro__[:-1]}
    return packages <= {OWN, "abc", "typing"} and hasattr(value, "__dict__")


def _public_name(value: Any) -> tuple[str, str, str] | None:
    """Module, name and version by which a class or function can be imported, if it can."""
    if not (isinstance(value, type) or callable(value)):
        return None
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    package = str(module).partition(".")[0]
    if not isinstance(name, str) or package not in (OWN, "builtins", "typing", *LIBRARIES):
        return None
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    version = str(getattr(sys.modules[package], "__version__", ""))
    return (str(module), name, version) if found is value else None


def _array(array: Any) -> bytes:
    if isinstance(array, Tracer):
        raise NoContentKeyError("a traced value")
    values = np.asarray(array)
    if values.dtype.hasobject:
        raise NoContentKeyError("an array of objects")
    is_weak = bool(getattr(array, "weak_type", False))
    kind = "array" if isinstance(array, jax.Array) else "numpy"
    return _hash(kind, str(values.dtype), str(values.shape), str(is_weak), values.tobytes())


def _hash(*parts: str | bytes) -> bytes:
    """Digest of parts; their lengths keep them apart."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
