"""What processes that tests start find in the place of Rich: nothing, as where Authly is installed for use.

Only tools of the development environment bring it. structlog imports it wherever it is there, which makes each start of
an instance or of a command a tenth slower, and tracebacks on a terminal others than users see.
"""

raise ImportError("Rich is for tools; Authly does without")
