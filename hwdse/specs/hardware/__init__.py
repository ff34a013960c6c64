"""Hardware specs: chips, clusters, cores, CPUs, dies and process nodes.

May import `numerics` only.
"""
