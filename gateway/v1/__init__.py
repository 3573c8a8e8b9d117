"""Version 1 of the API."""

from fastapi import APIRouter

from gateway.v1 import call, health, model, session, tool, usage

router = APIRouter(prefix="/v1")
router.include_router(session.router)
router.include_router(call.router)
router.include_router(tool.router)
router.include_router(usage.router)
router.include_router(model.router)
router.include_router(health.router)
