"""BTSE Pay and OSL Pay played over real HTTP, in a process of their own.

Imports only `orchestrator.signatures` of the product, so that it cannot agree with the clients on a mistake.
Start it with `serve(host, port, SandboxSettings.from_environ(os.environ))`.
"""

from orchestrator.sandbox.server import serve
from orchestrator.sandbox.settings import SandboxSettings, SandboxSettingsError

__all__ = ["SandboxSettings", "SandboxSettingsError", "serve"]
