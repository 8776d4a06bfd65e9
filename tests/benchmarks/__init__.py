"""Measurements of speed and size, beside what others need: `python -m tests.benchmarks` prints one table.

They are no tests: nothing here is collected by pytest, and no test measures time.
"""
