"""Fixtures for every ring."""

from tests.browser import chromium, open_browser, playwright

__all__ = ["chromium", "open_browser", "playwright"]
