"""Mean reading of a power meter that shows a trailing mean, over loads that follow one another.

NVML's power of a GPU is the mean of the last second. A measurement reads it each 0.1 s from the
start of the load to its end, so that the readings of a short load show mostly what ran before it:
the loads measured last, and the pauses in which the next one is set up.
"""

import numpy as np

from hwdse.numerics.array_types import PerPoint

WINDOW_S = 1.0
"""Time over which the meter takes its mean. Published: NVML, `nvmlDeviceGetPowerUsage` (Ampere and
later)."""
SAMPLE_S = 0.1
"""Time between readings, the first at the start of the load. Published: collector of
aiconfigurator, `PowerMonitor`."""
NUM_WINDOW_SAMPLES = round(WINDOW_S / SAMPLE_S)


def energy_before_j(
    past_s: np.ndarray, durations_s: np.ndarray, powers_w: np.ndarray, earlier_w: PerPoint
) -> np.ndarray:
    """Energy of the last `past_s` seconds (J).

    `durations_s` and `powers_w` hold the loads and pauses of those seconds, newest first along the
    last axis; before the oldest of them the power was `earlier_w`.
    """
    ends_s = np.cumsum(durations_s, axis=-1)
    inside_s = np.clip(past_s[..., None] - (ends_s - durations_s), 0.0, durations_s)
    earlier_s = np.maximum(past_s - ends_s[..., -1], 0.0)
    return np.sum(inside_s * powers_w, axis=-1) + earlier_s * earlier_w


def mean_reading_w(
    load_w: PerPoint,
    load_s: PerPoint,
    durations_s: np.ndarray,
    powers_w: np.ndarray,
    earlier_w: PerPoint,
) -> np.ndarray:
    r"""Mean of the readings in a load of `load_w` that lasts `load_s` (W).

    The reading after t of the load is $(\min(t, w) P + E(w - t)) / w$ with the window w and the
    energy E of the time before, see `energy_before_j`.
    """
    num_samples = np.floor(np.asarray(load_s) / SAMPLE_S) + 1.0
    readings_w = np.zeros(num_samples.shape)
    for index in range(NUM_WINDOW_SAMPLES):
        inside_s = index * SAMPLE_S
        past_s = np.full(num_samples.shape, WINDOW_S - inside_s)
        before_j = energy_before_j(past_s, durations_s, powers_w, earlier_w)
        reading_w = (inside_s * load_w + before_j) / WINDOW_S
        readings_w += np.where(num_samples > index, reading_w, 0.0)
    # Later readings show the load alone.
    late = np.maximum(num_samples - NUM_WINDOW_SAMPLES, 0.0)
    return (readings_w + late * load_w) / num_samples
