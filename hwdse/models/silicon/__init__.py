"""Die area, yield, cost and carbon of a chip.

- `area`: die area of a chip by component, reticle usage.
- `die_area_from_units`: die area from published unit counts.
- `die_yield`: dies per wafer and laws of defect yield.
- `packaging_cost`: interposer, substrate and bonding.
- `cost`: manufacturing cost of a chip, cost of a training step.
- `carbon`: embodied and operational CO2 equivalents.
"""
