"""What measurements mean: intervals, claims, scaling laws, targets. Pure; scipy is imported only where it is called."""
