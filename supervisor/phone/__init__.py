"""What is done on a phone call: TwiML, dialing, webhooks, orders from outside."""
