"""Pipes on Redis or Valkey."""
