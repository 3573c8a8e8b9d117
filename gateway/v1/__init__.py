"""Version 1 of the API."""

from fastapi import APIRouter

from gateway.v1 import (
    access,
    agent,
    audit,
    budget,
    call,
    chat,
    fork,
    health,
    model,
    policy,
    relation,
    response,
    session,
    tool,
    tool_executor,
    usage,
)

router = APIRouter(prefix="/v1")
router.include_router(session.router)
router.include_router(fork.router)
router.include_router(call.router)
router.include_router(tool_executor.router)
router.include_router(tool.router)
router.include_router(agent.router)
router.include_router(chat.router)
router.include_router(response.router)
router.include_router(budget.router)
router.include_router(usage.router)
router.include_router(relation.router)
router.include_router(access.router)
router.include_router(policy.router)
router.include_router(audit.router)
router.include_router(model.router)
router.include_router(health.router)
