"""The forward pass of both states."""
