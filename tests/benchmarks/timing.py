"""Medians of times, taken in turns so that a busy moment of the machine meets everything that is compared."""

import gc
import statistics
import time
from collections.abc import Callable


def timed(call: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds; its result is freed outside the time."""
    gc.collect()
    start = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each call; all are called in turn, `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: statistics.median(each) for name, each in times.items()}


def median_of(rounds: int, once: Callable[[], float]) -> float:
    """Return the median of what a function measures itself."""
    return statistics.median(once() for _ in range(rounds))
