"""The estimators: scikit-learn's face of a federated training."""
