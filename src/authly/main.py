"""The application for servers: ``gunicorn authly.main:app``."""

from authly.app import create_app

app = create_app()
