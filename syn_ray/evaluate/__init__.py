"""Evaluation on real images: losses in nats and accuracies, per image, per class and over a set."""
