"""Figures of agreement, and how a model ranks distorted photographs."""
