"""HTTP: who may ask, what is recorded of it, and the server that answers."""
