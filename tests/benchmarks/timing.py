"""Medians of times, taken in turns so that a busy moment of the machine meets everything that is compared."""

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial


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
    return medians_of({name: partial(timed, call) for name, call in calls.items()}, rounds)


def medians_of(clocks: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median of what each function measures itself; all are called in turn, `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds):
        for name, clock in clocks.items():
            times[name].append(clock())
    return {name: statistics.median(each) for name, each in times.items()}
