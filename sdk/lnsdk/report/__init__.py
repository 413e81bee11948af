"""Results for people and for other systems: pictures of key slices."""
