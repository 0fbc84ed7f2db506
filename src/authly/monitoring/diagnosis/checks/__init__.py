"""The checks, one small function for each fault: what it looks at is given, what it finds it yields."""
