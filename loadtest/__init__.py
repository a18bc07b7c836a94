"""Callers, a stand-in for Asterisk, demonstrations and measurements."""
