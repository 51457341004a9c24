"""What changes features or head for a wrapped detector."""
