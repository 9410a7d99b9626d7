"""Privacy: what a server, and whoever has the model, may learn."""
