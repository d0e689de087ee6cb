"""Pipes in PostgreSQL: an unlogged table for the messages, LISTEN and NOTIFY for the wake-up."""
