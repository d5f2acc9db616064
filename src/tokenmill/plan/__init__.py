"""What runs where, decided before anything starts: the inventory of nodes, and which of them share hardware. Pure."""
