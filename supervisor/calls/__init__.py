"""What becomes of each call: a pure table of states, and what carries its decisions out."""
