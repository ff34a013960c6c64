"""Die area, yield, cost and carbon of a chip.

- `area`: die area of a chip by component from counts and rates of units, reticle usage.
- `unit_areas`: arithmetic units from transistor counts, SRAM macros from bit cells.
- `die_yield`: dies per wafer and laws of defect yield.
- `packaging_cost`: interposer, substrate and bonding.
- `cost`: manufacturing cost of a chip, cost of a training step.
- `carbon`: embodied and operational CO2 equivalents.
"""
