"""The load: who asks Authly for what, how often and when. Runs under Locust; imports nothing of Authly."""
