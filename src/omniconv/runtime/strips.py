"""Strips: machine code that runs tables of steps as the units of one step, each table on one thread.

Args are two addresses: of the records (those of :mod:`omniconv.runtime.driver`), and of the numbers of the first record
of every strip, with the number of records behind them. Unit u runs the records from ``starts[u]`` to ``starts[u + 1]``
in order, each with all of its units.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from omniconv.compiler.code.build import LoadedKernel, Source, load
from omniconv.compiler.code.cache import open_cache
from omniconv.runtime.driver import STEP_WORDS
from omniconv.target.select import select_target

_IR: Final = """
define void @<NAME>(ptr %args, i64 %begin, i64 %end, i64 %own) {
  %records = load ptr, ptr %args
  %second = getelementptr ptr, ptr %args, i64 1
  %starts = load ptr, ptr %second
  %from = getelementptr i64, ptr %starts, i64 %begin
  %to = getelementptr i64, ptr %starts, i64 %end
  %first = load i64, ptr %from
  %last = load i64, ptr %to
  br label %head
head:
  %index = phi i64 [ %first, %0 ], [ %next, %body ]
  %more = icmp slt i64 %index, %last
  br i1 %more, label %body, label %done
body:
  %offset = mul i64 %index, <WORDS>
  %record = getelementptr i64, ptr %records, i64 %offset
  %function = load ptr, ptr %record
  %args_at = getelementptr i64, ptr %record, i64 1
  %args_of = load ptr, ptr %args_at
  %units_at = getelementptr i64, ptr %record, i64 2
  %units = load i64, ptr %units_at
  call void %function(ptr %args_of, i64 0, i64 %units, i64 %own)
  %next = add i64 %index, 1
  br label %head
done:
  ret void
}
"""


def emit_strips(name: str) -> str:
    """LLVM IR under the given symbol."""
    return _IR.replace("<NAME>", name).replace("<WORDS>", str(STEP_WORDS))


@lru_cache(maxsize=1)
def load_strips() -> LoadedKernel:
    """The machine code; it stays for the life of the process."""
    return load([Source("strips", emit_strips, "strips")], select_target("native"), cache=open_cache())[0]
