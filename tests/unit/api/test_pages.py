"""Rendering pages: what each of them has, and what none of them has."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from starlette.requests import Request

from authly.api import csrf
from authly.api.pages import Pages
from authly.sessions.models import Session
from authly.users.models import User

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SESSION = Session(uuid4(), uuid4(), NOW, ("pwd",), None, None, NOW, NOW, NOW)
NASTY = """<script>alert(1)</script>"' onfocus=alert(1) x={{7*7}}"""
USER = User(SESSION.user_id, "ada", "ada@example.org", False, NASTY, {}, False, None, NOW, NOW)
FORM = {"return_to": NASTY, "username": NASTY, "problem": NASTY, "invalid": True}
PAGES: dict[str, dict[str, Any]] = {
    "login.html": FORM,
    "signup.html": {**FORM, "email": NASTY, "min_length": 12},
    "password.html": {"user": USER, "problem": NASTY, "invalid": "new", "min_length": 12},
    "account.html": {"user": USER, "notice": NASTY},
    "logout.html": {},
    "signed_out.html": {},
    "error.html": {"title": NASTY, "message": NASTY},
}


def request(cookie: str = "") -> Request:
    """Return a request with a cookie."""
    return Request({"type": "http", "method": "GET", "headers": [(b"cookie", cookie.encode())]})


@pytest.mark.parametrize("template", PAGES)
def test_what_people_typed_is_text(template: str) -> None:
    """Nothing that comes from outside becomes markup, and no page has what a strict policy would refuse."""
    pages = Pages(sign_up=True)
    text = bytes(pages.render(request(), template, SESSION, **PAGES[template]).body).decode()
    assert "<script" not in text
    assert "{{" not in text.replace("{{7*7}}", "")
    assert "49" not in re.sub(r'value="[^"]*"|\?v=\w+', "", text)
    outside_values = re.sub(r'"[^"]*"', '""', text)
    assert not re.search(r"<[^>]*\s(on\w+|style)=", outside_values)
    assert "<style" not in text
    assert "javascript:" not in text


@pytest.mark.parametrize("template", PAGES)
def test_every_page_is_a_document_of_its_own_kind(template: str) -> None:
    """It has a language, a title, one heading, and is kept by nobody."""
    response = Pages().render(request(), template, SESSION, **PAGES[template])
    text = bytes(response.body).decode()
    assert text.startswith("<!doctype html>")
    assert '<html lang="en">' in text
    assert text.count("<h1>") == text.count("<title>") == 1
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_forms_have_a_token_of_the_browser() -> None:
    """A browser without a value gets one, in a cookie that only this host sees; one that has a value keeps it."""
    pages = Pages()
    response = pages.render(request(), "logout.html", SESSION)
    (cookie,) = response.headers.getlist("set-cookie")
    match = re.fullmatch(r"__Host-authly_csrf=([\w-]{43}); HttpOnly; Path=/; SameSite=strict; Secure", cookie)
    assert match, cookie
    token = re.search(r'name="csrf_token" value="(\w+)"', bytes(response.body).decode())
    assert token
    assert csrf.is_valid_token(token[1], match[1], str(SESSION.session_id))
    again = pages.render(request(f"{csrf.COOKIE}={match[1]}"), "logout.html", SESSION)
    assert "set-cookie" not in again.headers
    token = re.search(r'name="csrf_token" value="(\w+)"', bytes(again.body).decode())
    assert token
    assert csrf.is_valid_token(token[1], match[1], str(SESSION.session_id))


def test_a_theme_comes_last() -> None:
    """An operator's stylesheet is loaded after Authly's, under an address that changes with it."""
    text = bytes(Pages(b":root{--accent:red}").render(request(), "logout.html", SESSION).body).decode()
    found = re.findall(r'<link rel="stylesheet" href="/static/([\w.]+)\?v=(\w{16})">', text)
    assert [name for name, _ in found] == ["authly.css", "theme.css"]
    other = bytes(Pages(b":root{--accent:blue}").render(request(), "logout.html", SESSION).body).decode()
    changed = re.findall(r'<link rel="stylesheet" href="/static/([\w.]+)\?v=(\w{16})">', other)
    assert (changed[0], changed[1] != found[1]) == (found[0], True)
