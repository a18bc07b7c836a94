"""The operator's page at `/`: calls, workers and ports as they are now, and the last hour."""
