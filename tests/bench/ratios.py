"""Medians and how sure they are."""

import random
from statistics import median

RESAMPLES = 10_000


def ratio(ours, theirs, seed):
    """The median of the rounds' ratios, with a bootstrap interval of 95 %: (median, lower, upper).

    Round i of ours is divided by round i of theirs, which ran seconds apart: what slows the machine for a
    while slows both. The rounds are drawn again with replacement (Efron's percentile method).
    """
    ratios = [our / their for our, their in zip(ours, theirs)]
    draw = random.Random(seed)
    medians = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return median(ratios), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]
