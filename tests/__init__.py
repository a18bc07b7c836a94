"""Tests mirror the sources; those marked `asterisk` place real SIP calls."""
