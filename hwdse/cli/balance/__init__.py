"""Command `balance`: precision, network, memory and checkpoint balances of one design.

Imports `cli.shared` and the rooms above `cli`.
"""
