"""The Calls resource as Twilio has it, and our own operations beside it."""
