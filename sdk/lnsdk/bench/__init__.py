"""How fast a detector is on this machine: every engine in a process of its own."""
