"""Copies of models on other drives: made, proven, resumed, brought back."""
