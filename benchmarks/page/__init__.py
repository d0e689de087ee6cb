"""The tables and plots of docs/benchmarks.md, made from what the benchmarks kept."""
