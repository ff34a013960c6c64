"""Options, exit codes, tables, metrics and plots that several commands share.

Imports `runs`, `plots` and every room above them, but no other folder of `cli`.
"""
