"""What is remembered: records in, records out. No driver's name leaves this room."""

from orchestrator.store.access import AccessStore
from orchestrator.store.change import Change, LeaseLost
from orchestrator.store.schedule import ScheduleStore
from orchestrator.store.sqlite import SqliteDriver
from orchestrator.store.status import StatusStore
from orchestrator.store.store import Store

__all__ = ["AccessStore", "Change", "LeaseLost", "ScheduleStore", "SqliteDriver", "StatusStore", "Store"]
