"""The OpenAPI document is valid and has every route."""

from collections.abc import Iterator
from typing import Any

from tasks.server.app import ROUTES
from tasks.server.openapi import DOCUMENT


def test_the_document_is_valid() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator, validate  # noqa: PLC0415 - half a second

    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def test_the_document_has_every_route_and_no_other() -> None:
    routes = {(route.path_format, method) for route in ROUTES for method in (route.methods or set()) - {"HEAD"}}
    assert {(path, method) for path, method, _ in operations()} == routes


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_each_parameter_of_a_path_is_described() -> None:
    for path, _, operation in operations():
        described = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert described == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
