"""Energy and power of a chip.

- `arithmetic_unit_costs`: energy and area of multipliers and adders by operand width and node.
- `data_movement_energy`: energy per bit of DRAM, links and SRAM ports.
- `voltage_and_leakage`: supply voltage of a clock, energy of SRAM accesses, leakage.
- `chip_energy`: energy of a chip by part.
"""
