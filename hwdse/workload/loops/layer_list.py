"""Layer lists: the matrix products of a network as they stand, one chip, forward only."""

import flax.struct

from hwdse.workload.gemms import Gemms


@flax.struct.dataclass
class LayerList:
    """One inference pass over the rows of a SCALE-Sim topology file."""

    gemms: Gemms
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)
