"""Jobs that wait for each other: chains and groups, from the steps a developer writes to what the broker is given."""
