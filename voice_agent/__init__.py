"""The sample voice server: answers Media Streams WebSockets with an agent."""
