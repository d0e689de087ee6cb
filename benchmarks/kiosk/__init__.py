"""The Django project of `benchmarks.django`."""
