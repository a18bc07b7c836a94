"""Recordings that are over: where they are, how they are decrypted, and their upload to S3."""
