"""Each broker beside its driver, bare."""
