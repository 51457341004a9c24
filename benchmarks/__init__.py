"""Speed, memory and precision, measured by hand: ``python -m benchmarks``. Tests time nothing."""
