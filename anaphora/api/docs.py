"""The documentation page of the API: the OpenAPI schema as HTML, without scripts and external hosts.

It replaces Swagger UI, which has accessibility problems that cannot be configured away: no language, low contrast and
nested buttons.
"""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase


class DescriptionPage(DocsBase):
    """Lists the operations with inputs and responses, and the schemas."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        """Return the page. It is public, because it contains no data of the installation."""
        schema = api.get_openapi_schema(path_params=kwargs)
        context = {
            "title": schema["info"]["title"] + ": API",
            "site_header": admin.site.site_header,
            "has_permission": admin.site.has_permission(request),
            "description": schema["info"]["description"],
            "openapi_url": self.get_openapi_url(api, kwargs),
            "operations": list(_operations(schema, request.build_absolute_uri("/").rstrip("/"))),
            "schemas": [
                {"name": name, "description": each.get("description", ""), "fields": _fields(each)}
                for name, each in schema["components"]["schemas"].items()
            ],
        }
        return render(request, "api/docs.html", context)


def _operations(schema: dict[str, Any], host: str) -> Iterator[dict[str, Any]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {})
            inputs = [_input(each) for each in operation["parameters"]]
            for media_type, content in body.items():
                inputs += [{**field, "place": media_type} for field in _fields(content["schema"])]
            answers = [_answer(status, each) for status, each in sorted(operation["responses"].items())]
            yield {
                "method": method.upper(),
                "path": path,
                "description": operation.get("description", ""),
                "inputs": inputs,
                "answers": [each for each in answers if each["status"] < 400],
                "errors": [each for each in answers if each["status"] >= 400],
                "example": _example(host + path, inputs, form=bool(body)),
            }


def _input(parameter: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter["name"],
        "place": parameter["in"],
        "type": _type(parameter["schema"]),
        "required": parameter["required"],
        "description": parameter["schema"].get("description", ""),
    }


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": _type(each),
            "required": name in schema.get("required", []),
            "description": each.get("description", ""),
        }
        for name, each in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a schema as text: `date-time or null`, `list of ReportOut`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    known = {"binary": "file"}
    name = schema.get("format") or schema.get("type", "any")
    return known.get(name, str(name))


def _answer(status: str, response: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = next(iter(response.get("content", {}).values()), {})
    return {
        "status": int(status),
        "description": response["description"],
        "type": _type(content["schema"]) if content else "",
    }


def _example(address: str, inputs: list[dict[str, Any]], *, form: bool) -> str:
    parts = ['curl -H "Authorization: Bearer $TOKEN"']
    if form:
        parts += [f"-F {each['name']}={'@' if each['type'] == 'file' else ''}…" for each in inputs]
    return " \\\n  ".join([*parts, f'"{address}"'])
