"""The media worker: RTP on one side, a Twilio Media Streams client on the other."""
