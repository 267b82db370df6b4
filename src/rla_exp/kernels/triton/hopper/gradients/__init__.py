"""The gradients of q, k and the gates through one state, chunk by chunk."""
