"""Overhead factor of matrix engines, fitted on the power limits of chips."""

import numpy as np

from hwdse.numerics.array_types import PerPoint


def fit_overhead_ratio(datapath_j: PerPoint, rest_j: PerPoint, all_in_j: PerPoint) -> float:
    r"""Factor f with the least squares of $(f d + r) / e - 1$ over chips, closed form.

    Energy per FLOP (J): datapath d, all other parts r, power limit over peak rate e.
    """
    slope = np.asarray(datapath_j) / np.asarray(all_in_j)
    target = 1.0 - np.asarray(rest_j) / np.asarray(all_in_j)
    return float(slope @ target / (slope @ slope))


def leave_one_out_errors(datapath_j: PerPoint, rest_j: PerPoint, all_in_j: PerPoint) -> np.ndarray:
    """Relative error of each chip with the factor fitted on the others."""
    errors = np.empty(len(all_in_j))
    for index in range(len(all_in_j)):
        others = np.arange(len(all_in_j)) != index
        ratio = fit_overhead_ratio(datapath_j[others], rest_j[others], all_in_j[others])
        errors[index] = (ratio * datapath_j[index] + rest_j[index]) / all_in_j[index] - 1.0
    return errors
