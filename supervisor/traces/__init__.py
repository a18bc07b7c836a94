"""Traces of calls' set-ups, for OpenTelemetry; off without a collector (docs/operations.md)."""
