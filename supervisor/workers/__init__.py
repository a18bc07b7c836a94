"""The worker processes, their RTP ports, and which worker serves which call."""
