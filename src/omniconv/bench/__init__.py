"""Measuring against other runtimes: verify once, then time in turns in one process.

Every contender computes the same thing from the same input with the same number of threads. Their outputs are compared
first; then they are called in turns, so that frequency, temperature and neighbours on the machine meet them all alike,
and medians are compared. Numbers from different runs or machines are never mixed.
"""
