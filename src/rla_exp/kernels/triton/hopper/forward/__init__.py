"""The forward pass of both states, or of one."""
