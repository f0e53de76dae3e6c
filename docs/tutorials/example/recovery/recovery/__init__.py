"""A small recipe: logistic regression by federated averaging."""
