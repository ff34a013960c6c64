"""Layer list: the GEMM operators of a network for one inference pass on one chip."""

import flax.struct

from hwdse.workload.gemms import Gemms


@flax.struct.dataclass
class LayerList:
    """One inference pass over the layers of a SCALE-Sim topology file."""

    gemms: Gemms
    """One GEMM operator per layer."""
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    """Name of each layer."""
