"""GLIANet: the models, the data, training and evaluation."""
