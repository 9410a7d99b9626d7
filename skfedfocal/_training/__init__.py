"""The algorithm: rounds, and what makes a training of them."""
