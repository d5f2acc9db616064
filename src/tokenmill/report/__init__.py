"""What a run means, computed from its attempts: metrics, bound, causes, audit, certificate. Pure."""
