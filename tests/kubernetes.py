"""Kubernetes manifests against the schemas of their kinds, as models that packages bring: nothing is downloaded.

The models are pydantic's and let what they do not know pass; the API server refuses it, or loses it. So what is written
is compared with what a model knows, name by name.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

MODELS = {
    "v1": "cloudcoil.models.kubernetes.core.v1",
    "apps/v1": "cloudcoil.models.kubernetes.apps.v1",
    "policy/v1": "cloudcoil.models.kubernetes.policy.v1",
    "networking.k8s.io/v1": "cloudcoil.models.kubernetes.networking.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def manifests(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def unknown(written: Any, model: Any, place: str) -> Iterator[str]:
    """Yield the place of each name that is written and that the model does not have.

    Args:
        written: a part of a manifest.
        model: what pydantic made of it.
        place: of this part.
    """
    if isinstance(model, BaseModel) and isinstance(written, dict):
        fields = {field.alias or name: name for name, field in type(model).model_fields.items()}
        for name, value in written.items():
            if name in fields:
                yield from unknown(value, getattr(model, fields[name]), f"{place}.{name}")
            elif not fields or "root" in fields:
                yield from unknown(value, getattr(model, "root", None), place)
            else:
                yield f"{place}.{name}"
    elif isinstance(written, list) and isinstance(model, list):
        for number, (one, its) in enumerate(zip(written, model, strict=True)):
            yield from unknown(one, its, f"{place}[{number}]")
    elif isinstance(written, dict) and isinstance(model, dict):
        for name, value in written.items():
            yield from unknown(value, model.get(name), f"{place}.{name}")


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what of a manifest its kind does not have.

    Raises:
        pydantic.ValidationError: something is missing, or of another type.
    """
    kind = getattr(importlib.import_module(MODELS[manifest["apiVersion"]]), manifest["kind"])
    return list(unknown(manifest, kind.model_validate(manifest), manifest["kind"]))
