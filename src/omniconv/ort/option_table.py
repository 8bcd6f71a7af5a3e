"""The options of sessions and of runs: what each does here, and why."""

from __future__ import annotations

from typing import Any, Final

from omniconv.ort.enums import ExecutionMode, ExecutionOrder, GraphOptimizationLevel
from omniconv.records import dataclass

USED: Final = "used"
NOTHING: Final = "accepted, changes nothing"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class SessionOption:
    """One option: its value until it is set, what becomes of others, and why."""

    default: Any
    effect: str
    why: str


OPTIONS: Final[dict[str, SessionOption]] = {
    "intra_op_num_threads": SessionOption(0, USED, "threads that share each call; 0 is the default of `compile`"),
    "inter_op_num_threads": SessionOption(0, NOTHING, "threads share each operator, one after the other"),
    "execution_mode": SessionOption(ExecutionMode.ORT_SEQUENTIAL, NOTHING, "threads share each operator"),
    "execution_order": SessionOption(ExecutionOrder.DEFAULT, NOTHING, "the plan has the order"),
    "graph_optimization_level": SessionOption(
        GraphOptimizationLevel.ORT_ENABLE_ALL, NOTHING, "rewrites are proved for every input, and always made"
    ),
    "enable_cpu_mem_arena": SessionOption(True, NOTHING, "memory is planned when compiling, one block for each caller"),
    "enable_mem_pattern": SessionOption(True, NOTHING, "memory is planned when compiling"),
    "enable_mem_reuse": SessionOption(True, NOTHING, "memory is planned when compiling"),
    "use_deterministic_compute": SessionOption(False, NOTHING, "results are always the same"),
    "use_per_session_threads": SessionOption(True, NOTHING, "sessions share threads"),
    "log_severity_level": SessionOption(-1, NOTHING, "no log is written; warnings are Python's"),
    "log_verbosity_level": SessionOption(0, NOTHING, "no log is written"),
    "logid": SessionOption("", NOTHING, "no log is written"),
    "profile_file_prefix": SessionOption("onnxruntime_profile_", NOTHING, "no profile is written"),
    "enable_profiling": SessionOption(False, REFUSED, "`omniconv bench MODEL`, or `compile(model).profile(inputs)`"),
    "optimized_model_filepath": SessionOption("", REFUSED, "what is compiled is no ONNX model"),
}
"""The attributes of `SessionOptions`."""

RUN_OPTIONS: Final[dict[str, SessionOption]] = {
    "terminate": SessionOption(False, USED, "a run that is given options with it raises `Fail`"),
    "only_execute_path_to_fetches": SessionOption(False, NOTHING, "all outputs are computed"),
    "log_severity_level": SessionOption(-1, NOTHING, "no log is written"),
    "log_verbosity_level": SessionOption(0, NOTHING, "no log is written"),
    "logid": SessionOption("", NOTHING, "no log is written"),
}
"""The attributes of `RunOptions`."""

PRECISION: Final = "omniconv.precision"
"""The key of a configuration entry of sessions: what `compile` takes as ``precision``."""

ENTRIES: Final = (
    "session.intra_op", "session.inter_op", "session.force_spinning_stop", "session.dynamic_block_base",
    "session.use_env_allocators", "session.use_device_allocator_for_initializers", "session.disable_prepacking",
    "session.allow_released_opsets_only", "session.strict_shape_type_inference", "session.use_memory_mapped_ort_model",
    "session.disable_quant_qdq", "session.enable_quant_qdq_cleanup", "session.qdq_is_int8_allowed",
    "session.graph_optimizations_loop_level", "session.disable_double_qdq_remover", "session.disable_aot",
    "session.enable_gelu_approximation", "session.enable_cast_chain_elimination", "session.minimal_build_optimizations",
    "session.node_partition_config_file", "session.record_ep_graph_assignment_info",
    "optimization.", "mlas.", "ep.", "memory.", "gpu_graph_id",
)  # fmt: skip
"""Beginnings of the keys of configuration entries that are known to change no answer here: they concern speed, memory,
other devices, or allow less exact arithmetic. Others are taken with a warning.
"""
