"""The bill of materials of a bundle: CycloneDX 1.6 JSON.

What is inside the bundle (the model with its files), what it needs on the device (the runtime) and what built it
(Edgewright and the distributions its steps used, as tools of the document). Serial number and time derive from the
contents, so that packing twice gives the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from edgewright.core.bundle import FileEntry, Manifest
from edgewright.core.codec import encode
from edgewright.core.digest import digest_json
from edgewright.errors import ToolchainMissing
from edgewright.runtimes import find_runtime

NAMESPACE = uuid.UUID("6f0f6f4e-5a0f-5d0e-9a55-0f6b1d0a7d11")
TIME = datetime(1980, 1, 1, tzinfo=timezone.utc)
"""The time of every file in the archive: a bundle has contents, not a birthday."""


def bill_of_materials(manifest: Manifest, files: Mapping[str, FileEntry]) -> str:
    """Returns the SBOM as indented JSON.

    Args:
        manifest: What is packed.
        files: Path in the bundle -> size and digest, before manifest and SBOM exist.

    Raises:
        ToolchainMissing: cyclonedx-python-lib is not installed.
    """
    try:
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.tool import ToolRepository
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise ToolchainMissing(
            f"the SBOM cannot be written: {error}", hint='pip install "edgewright[build]"'
        ) from error
    model = _model(manifest, files)
    runtime = _package(find_runtime(manifest.runtime.name).distribution, manifest.runtime.version, "runtime")
    tools = [_package(name, version, "tool") for name, version in sorted(_tools(manifest).items())]
    identity = digest_json({"manifest": encode(manifest), "files": encode(dict(files))})
    bom = Bom(
        components=[runtime],
        serial_number=uuid.uuid5(NAMESPACE, identity),
        metadata=BomMetaData(component=model, tools=ToolRepository(components=tools), timestamp=TIME),
    )
    bom.register_dependency(model, [runtime])
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _tools(manifest: Manifest) -> dict[str, str]:
    tools = {name: version for record in manifest.lineage for name, version in record.tools.items()}
    return {**manifest.tools, **tools, "edgewright": manifest.edgewright}


def _model(manifest: Manifest, files: Mapping[str, FileEntry]) -> Any:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    described = {
        "target": manifest.target,
        "precision": manifest.precision,
        "recipe": str(manifest.recipe),
        "candidate": manifest.candidate,
    }
    return Component(
        name=manifest.project,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{manifest.project}",
        version=None if manifest.measurement is None else manifest.measurement.artifact,
        components=[_file(name, entry) for name, entry in sorted(files.items())],
        properties=[Property(name=f"edgewright:{key}", value=value) for key, value in described.items()],
    )


def _file(name: str, entry: FileEntry) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    hashed = HashType(alg=HashAlgorithm.SHA_256, content=entry.digest.removeprefix("sha256:"))
    return Component(name=name, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=[hashed])


def _package(name: str, version: str, role: str) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{role}:{name}@{version}",
        purl=PackageURL("pypi", None, name, version),
    )
