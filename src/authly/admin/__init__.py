"""What administrators and operators do that concerns several services at once.

Owns the steps that belong together (whoever disables a user also takes back what the user's clients hold) and their
entries in the audit log. Does not own who may do it: the administration interface asks for scopes, and the command line
is for whoever may use it on the server.
"""
