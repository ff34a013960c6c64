"""Labels, numbers and plots of results for people; prints nothing.

Imports `config`, `runs` and `plots`; imported by `jobs` and `cli`.
"""
