"""Communication time of a training step.

- `topology_collectives`: collectives on a ring, torus, switch or full mesh.
- `collective_library`: collectives of a library with its protocols and routes (NCCL, custom).
- `pipeline_and_overlap`: pipeline bubble and sends, host dispatch, exposed communication.
"""
