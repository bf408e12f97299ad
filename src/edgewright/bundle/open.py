"""Opens bundles from anywhere: everything is checked before anything is used."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from edgewright.bundle.archive import Archive, read_contents
from edgewright.core.bundle import SCHEMA, GoldenPair, GoldenRef, Manifest, RuntimeRef, Variant
from edgewright.core.codec import TYPES, decode_stored
from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.target import Runner, RunOptions
from edgewright.errors import Corrupt, ToolchainMissing, UsageError
from edgewright.pipeline import Preprocess
from edgewright.runtimes._machine import local_device
from edgewright.store.cache import Cache
from edgewright.store.files import digest_file, full_disk_explained, list_files

MANIFEST = "manifest.json"
MODEL_CARD = "model-card.md"
SBOM = "sbom.cdx.json"
DEFAULT = "default"
"""Name of the manifest's own artifact, which every machine can run."""
MAX_MANIFEST = 64 << 20
MAX_GOLDEN = 256 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: every digest was checked, and its files lie unpacked in a cache.

    Attributes:
        path: The archive.
        folder: Where it is unpacked; shared by everyone who opens the same contents, so never written to.
        digest: Of the manifest, and so of everything in it: the identity of the bundle.
        manifest: What it says about itself.
        variant: What this machine runs; None for the manifest's own artifact.
    """

    path: Path
    folder: Path
    digest: Digest
    manifest: Manifest
    variant: Variant | None = None

    @property
    def runs(self) -> str:
        """Name of the variant that this machine runs, `default` for the manifest's own artifact."""
        return self.variant.name if self.variant else DEFAULT

    @property
    def artifact(self) -> Path:
        """The artifact folder that this machine runs."""
        return self.folder / (self.variant or self.manifest).artifact

    @property
    def runtime(self) -> RuntimeRef:
        """Which runtime runs it, in which versions."""
        return (self.variant or self.manifest).runtime

    @property
    def golden(self) -> GoldenRef:
        """The golden pairs of the artifact that this machine runs."""
        return (self.variant or self.manifest).golden

    def open_runner(self, threads: int | None = None) -> AbstractContextManager[Runner]:
        """Opens the artifact with its own runtime.

        Args:
            threads: Intra-operator threads; None for the number it was measured with.

        Raises:
            ToolchainMissing: The runtime is not installed, or in a version outside the bundle's range.
            Corrupt: The runtime cannot read the artifact.
        """
        from edgewright.runtimes import open_runner

        check_runtime(self.runtime)
        session = (self.variant or self.manifest).session
        options = RunOptions(threads=threads or self.manifest.options.threads, session=session)
        return open_runner(self.artifact, options)

    def golden_pairs(self, reference: GoldenRef | None = None) -> tuple[GoldenPair, ...]:
        """Returns golden pairs; their inputs lie relative to the list.

        Args:
            reference: Which ones; those of the artifact that this machine runs by default.

        Raises:
            Corrupt: The list cannot be read or names a file that the bundle does not hold.
        """
        reference = reference or self.golden
        if not reference.file:
            return ()
        pairs = read_pairs(self.folder / reference.file)
        parent = Path(reference.file).parent
        for pair in pairs:
            if (parent / pair.input).as_posix() not in self.manifest.files:
                _refuse(self.path, f"{reference.file} names {pair.input!r}, which is not in the bundle")
        if len(pairs) != reference.count:
            _refuse(self.path, f"{reference.file} has {len(pairs)} pairs, the manifest says {reference.count}")
        return pairs


def open_bundle(path: Path, cache: Path | None = None, *, variant: str | None = None) -> Bundle:
    """Checks a bundle and unpacks it into the cache, all or nothing.

    Where it carries variants, the one for this machine is taken.

    The archive may come from anyone: entry count and sizes are bounded, nothing is decompressed, no path leaves the
    folder, every file has the digest that the manifest gives and no other file is there.

    Args:
        path: The `.ewb` file.
        cache: Folder to unpack into; by default `bundles` in the user's cache.
        variant: Name of the variant to take whatever this machine is, `default` for the manifest's own artifact.

    Raises:
        UsageError: There is no such file or variant, or a newer Edgewright made it.
        Corrupt: It breaks a rule above.
        OutOfSpace: It cannot be unpacked.
    """
    archive = read_contents(path)
    raw = archive.read(MANIFEST, MAX_MANIFEST)
    manifest = _read_manifest(path, raw)
    _check_files(archive, manifest)
    _check_references(path, manifest)
    chosen = _chosen(path, manifest, variant)
    digest = digest_bytes(raw)
    folder = (cache or Cache.default().root / "bundles") / digest.removeprefix("sha256:")
    with full_disk_explained(folder.parent):
        _unpack(archive, manifest, raw, folder)
    return Bundle(path, folder, digest, manifest, chosen)


def check_runtime(wanted: RuntimeRef) -> str:
    """Returns the installed version of the runtime that an artifact of a bundle needs.

    Raises:
        ToolchainMissing: It is not installed, or its version is outside the bundle's range.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from edgewright.runtimes import find_runtime
    from edgewright.runtimes._require import installed_version

    distribution = find_runtime(wanted.name).distribution
    fix = f'pip install "{distribution}{wanted.range}"'
    found = installed_version(distribution)
    if found is None:
        raise ToolchainMissing(f"{distribution} is not installed; the bundle needs it", hint=fix)
    try:
        fits = SpecifierSet(wanted.range).contains(found, prereleases=True)
    except InvalidSpecifier as error:
        raise Corrupt(f"the manifest's runtime range {wanted.range!r} is malformed", hint="pack it anew") from error
    if not fits:
        needed = wanted.range or "any version"
        raise ToolchainMissing(f"{distribution} {found} is installed, but the bundle needs {needed}", hint=fix)
    return found


def _read_manifest(path: Path, raw: bytes) -> Manifest:
    try:
        schema = msgspec.json.decode(raw, type=dict[str, Any]).get("schema")
        if not isinstance(schema, int) or schema < 1:
            _refuse(path, f"its manifest has schema {schema!r}")
        if schema > SCHEMA:
            raise UsageError(
                f"{path}: made by a newer Edgewright: manifest schema {schema}, this one reads up to {SCHEMA}",
                hint="pip install --upgrade edgewright",
            )
        return decode_stored(Manifest, raw)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        _refuse(path, f"its manifest cannot be read: {error}")


def _check_files(archive: Archive, manifest: Manifest) -> None:
    held, promised = set(archive.entries) - {MANIFEST}, set(manifest.files)
    for name in sorted(held - promised):
        _refuse(archive.path, f"holds {name}, which its manifest does not know")
    for name in sorted(promised - held):
        _refuse(archive.path, f"lacks {name}, which its manifest promises")
    for name, entry in manifest.files.items():
        if archive.entries[name].size != entry.size:
            _refuse(archive.path, f"{name}: expected {entry.size} bytes, got {archive.entries[name].size}")


def _chosen(path: Path, manifest: Manifest, name: str | None) -> Variant | None:
    if name is None:
        return manifest.variant_for(local_device()) if manifest.variants else None
    found = {variant.name: variant for variant in manifest.variants}
    if name != DEFAULT and name not in found:
        known = ", ".join([DEFAULT, *found])
        raise UsageError(f'{path}: no variant is called "{name}"', hint=f"it carries {known}")
    return found.get(name)


def _check_references(path: Path, manifest: Manifest) -> None:
    named = [f"{each.artifact}/artifact.json" for each in manifest.artifacts]
    named += manifest.pipeline.resources.values()
    named += [each.golden.file for each in manifest.artifacts if each.golden.file]
    for name in named:
        if name not in manifest.files:
            _refuse(path, f"its manifest refers to {name}, which is not in the bundle")
    for file in Preprocess.from_spec(manifest.pipeline.preprocess, Path()).resources():
        if file not in manifest.pipeline.resources.values():
            _refuse(path, f"its pre-processing reads {file!r}, which is not a resource of the bundle")


def _unpack(archive: Archive, manifest: Manifest, raw: bytes, folder: Path) -> None:
    """Checks every digest; writes too, unless an intact copy is there."""
    intact = _is_intact(folder, manifest, raw)
    with contextlib.ExitStack() as stack:
        made = None if intact else stack.enter_context(_temporary_beside(folder))
        for name, expected in manifest.files.items():
            found = _copy(archive, name, made)
            if found != expected.digest:
                _refuse(archive.path, f"{name}: expected {expected.digest}, got {found}")
        if made is not None:
            (made / MANIFEST).write_bytes(raw)
            _move(made, folder)


def _copy(archive: Archive, name: str, folder: Path | None) -> Digest:
    import hashlib

    hasher = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        target = None
        if folder is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            target = stack.enter_context((folder / name).open("wb"))
        for chunk in archive.chunks(archive.entries[name]):
            hasher.update(chunk)
            if target is not None:
                target.write(chunk)
    return Digest("sha256:" + hasher.hexdigest())


def _is_intact(folder: Path, manifest: Manifest, raw: bytes) -> bool:
    try:
        if set(list_files(folder)) != {*manifest.files, MANIFEST} or (folder / MANIFEST).read_bytes() != raw:
            return False
        return all(digest_file(folder / name) == entry.digest for name, entry in manifest.files.items())
    except OSError:
        return False


@contextlib.contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        yield made / "bundle"
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _move(made: Path, folder: Path) -> None:
    """Puts the finished copy in place; a damaged one there is moved out of the way first."""
    grave = made.parent / "damaged"
    with contextlib.suppress(FileNotFoundError):
        folder.replace(grave)
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir() or not os.listdir(folder):  # noqa: PTH208 - only whether there is anything
            raise
        # Another process was faster; its copy has the same digests.


def read_pairs(file: Path) -> tuple[GoldenPair, ...]:
    """Reads `golden.json`; a decision may hold NaN, which strict JSON has no word for.

    Raises:
        Corrupt: It is missing, too large or malformed.
    """
    try:
        if file.stat().st_size > MAX_GOLDEN:
            raise ValueError(f"more than {MAX_GOLDEN} bytes")
        with TYPES:
            return msgspec.convert(json.loads(file.read_bytes()), tuple[GoldenPair, ...])
    except (OSError, ValueError, msgspec.ValidationError, RecursionError) as error:
        raise Corrupt(f"{file}: not a list of golden pairs: {error}", hint="pack the bundle anew") from error


def _refuse(path: Path, problem: str) -> NoReturn:
    raise Corrupt(f"{path}: {problem}", hint="fetch the bundle again or pack it anew; nothing of it was used")
