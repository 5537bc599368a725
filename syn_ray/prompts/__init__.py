"""Prompt sets: the rule from a sample's index to what the generator is asked for."""
