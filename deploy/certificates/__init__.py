"""Certificates of SIP over TLS: renewed while calls go on."""
