# SPDX-License-Identifier: Apache-2.0
"""Machine code that numba made, called by its address from machine code.

numba's functions take an array as numbers (of two owners, items, bytes of an item, its address, its
shape and its strides) and answer with a status. Here a call is three words: the function that
spreads the arguments, which there is one of for each list of kinds, the function to be called, and
where its arguments lie, a word each.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types

__all__ = ["WORDS", "address", "runner", "spreader", "takes_words", "thread_setter", "words"]

WORDS = 3
"""Of a call: who spreads its arguments, the function, the arguments' address."""

_word, _byte, _status = ir.IntType(64), ir.IntType(8), ir.IntType(32)
_RESULT_BYTES = 64
_DONE = (0, -2)
"""Statuses of a function that raised nothing: with a value, and with None."""
_KINDS = {types.float32: "f", types.float64: "d", types.int64: "i", types.boolean: "b"}
_LLVM = {"f": ir.FloatType(), "d": ir.DoubleType(), "i": _word, "b": _byte}
_engines: list[Any] = []
"""Who own the code, for as long as the process lives."""


def address(loop: Any) -> int:
    """Of the only version of a numba function, as it takes arguments itself."""
    version = _version(loop)
    found: int = version.library.get_pointer_to_function(version.fndesc.llvm_func_name)
    return found


def takes_words(loop: Any) -> bool:
    """Whether all its arguments are of kinds that :func:`words` knows."""
    kinds = _version(loop).signature.args
    return all(isinstance(kind, types.Array) or kind in _KINDS for kind in kinds)


def words(loop: Any, arguments: tuple[Any, ...]) -> tuple[str, np.ndarray]:
    """The kinds of the words that ``arguments`` of ``loop`` are, and the words, int64 ``[W]``.

    The caller keeps the arrays alive.
    """
    kinds, values = "", []
    for kind, argument in zip(_version(loop).signature.args, arguments, strict=True):
        if isinstance(kind, types.Array):
            given = [0, 0, argument.size, argument.itemsize, argument.ctypes.data]
            given += [*argument.shape, *argument.strides]
            kinds += "i" * len(given)
            values += given
        else:
            kinds += _KINDS[kind]
            values.append(_bits(argument, _KINDS[kind]))
    return kinds, np.array(values, np.int64)


def _version(loop: Any) -> Any:
    (version,) = loop.overloads.values()
    return version


def _bits(value: Any, kind: str) -> int:
    if kind == "f":
        return int(np.float32(value).view(np.int32))
    return int(np.float64(value).view(np.int64)) if kind == "d" else int(value)


@functools.cache
def spreader(kinds: str) -> int:
    """The address of ``status of(function, arguments)`` for arguments of such kinds."""
    module, builder, (function, slots) = _begin([_word, _word])
    result = builder.alloca(ir.ArrayType(_byte, _RESULT_BYTES), name="result")
    cause = builder.alloca(_byte.as_pointer(), name="cause")
    given = []
    for place, kind in enumerate(kinds):
        start = builder.add(slots, _word(8 * place))
        given.append(builder.load(builder.inttoptr(start, _LLVM[kind].as_pointer())))
    types_ = [result.type, cause.type, *(each.type for each in given)]
    target = builder.inttoptr(function, ir.FunctionType(_status, types_).as_pointer())
    builder.ret(builder.call(target, [result, cause, *given]))
    return _compiled(module)


@functools.cache
def thread_setter() -> int:
    """The address of what takes the place of :func:`spreader` to set numba's number of threads."""
    module, builder, (_, slots) = _begin([_word, _word])
    count = builder.load(builder.inttoptr(slots, _word.as_pointer()))
    _call(builder, "set_num_threads", ir.VoidType(), builder.trunc(count, _status))
    builder.ret(_status(0))
    return _compiled(module)


@functools.cache
def runner() -> Any:
    """``done = run(calls, count)``: make calls one after the other, up to one that raises.

    numba's number of threads is in the end what it was. ``calls`` is the address of int64
    ``[count, WORDS]``; ``done`` is how many raised nothing. The GIL is not held meanwhile.
    """
    module, builder, (calls, count) = _begin([_word, _word], _word)
    spread = ir.FunctionType(_status, [_word, _word]).as_pointer()
    threads = _call(builder, "get_num_threads", _status)
    done = builder.alloca(_word, name="done")
    builder.store(_word(0), done)
    head, body, step, end = (builder.append_basic_block(each) for each in ("head", "body", "", ""))
    builder.branch(head)
    builder.position_at_end(head)
    builder.cbranch(builder.icmp_signed("<", builder.load(done), count), body, end)
    builder.position_at_end(body)
    start = builder.add(calls, builder.mul(builder.load(done), _word(8 * WORDS)))
    who, function, slots = (
        builder.load(builder.inttoptr(builder.add(start, _word(8 * i)), _word.as_pointer()))
        for i in range(WORDS)
    )
    status = builder.call(builder.inttoptr(who, spread), [function, slots])
    ok = [builder.icmp_signed("==", status, _status(each)) for each in _DONE]
    builder.cbranch(builder.or_(*ok), step, end)
    builder.position_at_end(step)
    builder.store(builder.add(builder.load(done), _word(1)), done)
    builder.branch(head)
    builder.position_at_end(end)
    _call(builder, "set_num_threads", ir.VoidType(), threads)
    builder.ret(builder.load(done))
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return kind(_compiled(module))


def _begin(arguments: list[Any], result: Any = _status) -> tuple[Any, Any, Any]:
    module = ir.Module()
    module.triple = binding.get_process_triple()
    function = ir.Function(module, ir.FunctionType(result, arguments), "main")
    return module, ir.IRBuilder(function.append_basic_block()), function.args


def _call(builder: Any, symbol: str, result: Any, *arguments: Any) -> Any:
    """Call one of numba's C functions for threads, which it has given to LLVM by name."""
    kind = ir.FunctionType(result, [each.type for each in arguments]).as_pointer()
    place = _word(binding.address_of_symbol(symbol))
    return builder.call(builder.inttoptr(place, kind), arguments)


def _compiled(module: Any) -> int:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _engines.append(engine)
    found: int = engine.get_function_address("main")
    return found
