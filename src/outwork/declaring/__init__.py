"""What the declaration of a task is made of: its options and bounds, its typed arguments, what it is given to run."""
