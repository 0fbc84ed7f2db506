"""HTTP clients that speak to this machine, without TLS."""

import ssl

# httpx reads all certificates of the world for each new client, which takes 40 ms. Whoever presents itself by TLS is
# a stranger here.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
