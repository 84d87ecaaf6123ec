"""Fixtures of the whole service, for every test here that asks for them."""

from tests.service import bench, played, played_web, sandbox, sandbox_process, web

__all__ = ["bench", "played", "played_web", "sandbox", "sandbox_process", "web"]
