"""How each peer is driven. A module here is imported in the environment of its peer only."""
