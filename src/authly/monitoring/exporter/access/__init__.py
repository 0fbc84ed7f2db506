"""Own who may look at the exporter: certificates, passwords, tokens, and how often strangers may try.

The rules come from a file in the format of Prometheus' exporter-toolkit. Knows nothing of what is shown to those who
may look, nor of sockets. Whatever costs memory (ssl, yaml, bcrypt, threads) is imported where the rules ask for it.
"""
