"""The scenes, in the order of a run: see base.py for what one is."""
from . import beside, burst, busy, chats, overload, replay, resume, shared, speculation, stall
from .base import NotAvailable, Scene, Visit

SCENES = tuple(module.SCENE for module in (shared, beside, stall, resume, chats, speculation, busy, burst, overload, replay))
BY_NAME = {scene.name: scene for scene in SCENES}

__all__ = ['BY_NAME', 'NotAvailable', 'SCENES', 'Scene', 'Visit']
