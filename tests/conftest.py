"""Fixtures of every test."""

from tests.services import (
    kafka,
    module_kafka,
    module_platform,
    module_postgres,
    own_kafka,
    own_platform,
    postgres,
    pytest_configure,
    pytest_report_header,
    pytest_unconfigure,
    registry,
    services,
)

__all__ = [
    "kafka",
    "module_kafka",
    "module_platform",
    "module_postgres",
    "own_kafka",
    "own_platform",
    "postgres",
    "pytest_configure",
    "pytest_report_header",
    "pytest_unconfigure",
    "registry",
    "services",
]
