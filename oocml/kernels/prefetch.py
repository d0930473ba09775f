"""A prefetch instruction for kernels whose next memory addresses are known and far apart."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_READ = 0
_SECOND_LEVEL = 2
_DATA = 1


def _codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array, *index = args
    view = context.make_array(signature.args[0])(context, builder, array)
    address = cgutils.get_item_pointer(context, builder, signature.args[0], view, index, wraparound=False)
    pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature_ir = ir.FunctionType(ir.VoidType(), [pointer, int32, int32, int32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature_ir)
    builder.call(
        function, [builder.bitcast(address, pointer), int32(_READ), int32(_SECOND_LEVEL), int32(_DATA)]
    )
    return context.get_dummy_value()


@intrinsic  # type: ignore[misc]
def prefetch(typingctx: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of ``array[row, column]`` (2-D); has no effect on any value."""
    del typingctx, row, column
    return types.void(array, types.intp, types.intp), _codegen


@intrinsic  # type: ignore[misc]
def prefetch_element(typingctx: Any, array: Any, i: Any) -> Any:
    """Ask for the cache line of ``array[i]`` (1-D); has no effect on any value."""
    del typingctx, i
    return types.void(array, types.intp), _codegen
