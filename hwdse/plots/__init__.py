"""Plots of designs, mappings, searches and fronts with matplotlib.

A function gets arrays and an `Axes` and computes no results; `cli` and `experiments` select the
data. No other package of hwdse imports matplotlib. Imports no other package of hwdse.
"""
