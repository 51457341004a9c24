"""Know when your classifier is off the map."""
