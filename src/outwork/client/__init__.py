"""The side of those who enqueue: ways into the broker, and the wait for what comes back."""
