"""Communication time of a step.

- `topology_collectives`: collectives on a ring, torus, switch or full mesh.
- `hierarchical_collectives`: collectives over the scale-up and scale-out tiers of a cluster.
- `collective_library`: collectives of a library with its protocols and routes (NCCL, custom).
- `pipeline_and_overlap`: pipeline bubble and sends, host dispatch, exposed communication.
"""
