"""Number formats of a job and the die area or power of their units.

- `precision_mix`: bytes and speed of a format mix, area split between FP64 and FP16 units.
- `format_split`: split of an area or power budget over any number of formats.
- `fp64_emulation`: FP64 matrix multiplication on 16-bit or INT8 engines (Ozaki schemes).
"""
