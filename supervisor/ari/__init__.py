"""Asterisk's REST interface: its events by WebSocket, its requests by HTTP."""
