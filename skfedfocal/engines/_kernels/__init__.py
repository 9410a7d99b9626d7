"""Kernels: how a block of clients is trained."""
