"""One core that runs operators: mapper, loop nests, memory-port stalls, NeuronCore kernels.

The package imports only `numerics`, `specs`, `workload` and `models`. Public names load on
first use:

- `evaluate_core`: `Evaluation` of a core that runs an operator network.
- `core_mappings`: mapping of each operator and costs of one execution.
- `best_mapping`: best tile and residency of each operator on a core.
- `BestMapping`: result of `best_mapping`.
- `operator_nest`: loop nest of one operator under its best mapping.
- `best_row_stationary_mapping`: best row-stationary (Eyeriss) mapping of a convolution.
- `map_network`: mapped operators of a core design or of one core of a chip.
- `MappedNetwork`: result of `map_network`: loop nest, costs and metrics of each operator.
- `mapping_metrics`: reuse, traffic bounds and roofline of a mapping at each memory level.
- `kernel_times`: engine times and traffic of a kernel on a NeuronCore.
"""

from typing import TYPE_CHECKING

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.core.core_evaluation import core_mappings, evaluate_core
    from hwdse.core.mapper.mapper import BestMapping, best_mapping, operator_nest
    from hwdse.core.mapper.row_stationary_mapper import best_row_stationary_mapping
    from hwdse.core.mapping_analysis import mapping_metrics
    from hwdse.core.network_mapper import map_network
    from hwdse.core.neuron_kernel_time import kernel_times
    from hwdse.core.operator_loop_nests import MappedNetwork

__all__ = [
    "BestMapping",
    "MappedNetwork",
    "best_mapping",
    "best_row_stationary_mapping",
    "core_mappings",
    "evaluate_core",
    "kernel_times",
    "map_network",
    "mapping_metrics",
    "operator_nest",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "core_evaluation": (
            "core_mappings",
            "evaluate_core",
        ),
        "mapper.mapper": (
            "BestMapping",
            "best_mapping",
            "operator_nest",
        ),
        "mapper.row_stationary_mapper": ("best_row_stationary_mapping",),
        "mapping_analysis": ("mapping_metrics",),
        "network_mapper": ("map_network",),
        "neuron_kernel_time": ("kernel_times",),
        "operator_loop_nests": ("MappedNetwork",),
    },
)
