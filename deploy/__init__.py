"""What it takes to run the stack on a machine."""
