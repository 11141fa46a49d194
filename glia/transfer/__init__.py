"""Semantic-aligned quality transfer (GlintIQA): labels of rated references carried to pictures that nobody rated."""
