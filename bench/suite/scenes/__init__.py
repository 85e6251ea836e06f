"""The scenes, in the order of a run: see base.py for what one is."""
from . import (beside, burst, busy, chats, embed, kinds, overload, policies, pull, replay, resume, shared, speculation, stall, swap,
               tree)
from .base import SEED_TUNING, NotAvailable, Scene, Visit

SCENES = (*(module.SCENE for module in (shared, beside, stall, resume, chats, speculation, busy, burst, overload, replay)), *kinds.SCENES,
          policies.SCENE, tree.SCENE, swap.SCENE, pull.SCENE, embed.SCENE)
BY_NAME = {scene.name: scene for scene in SCENES}

__all__ = ['BY_NAME', 'NotAvailable', 'SCENES', 'SEED_TUNING', 'Scene', 'Visit']
