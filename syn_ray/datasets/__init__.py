"""Real images and class names: what a real source, an evaluation set or a caption comes from."""
