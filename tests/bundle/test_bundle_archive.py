import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle import archive
from edgewright.errors import Corrupt, EdgewrightError, UsageError

NAMES = st.from_regex(r"\A[A-Za-z0-9_]{1,8}(/[A-Za-z0-9_.]{0,4}[a-z0-9]){0,2}\Z")


def read_all(path: Path) -> dict[str, bytes]:
    opened = archive.read_contents(path)
    return {name: b"".join(opened.chunks(entry)) for name, entry in opened.entries.items()}


@settings(max_examples=50, deadline=None)
@given(contents=st.dictionaries(NAMES, st.binary(max_size=64), max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]) -> None:
    if archive.names_problem(sorted(contents)) or any(map(archive.name_problem, contents)):
        return
    path = tmp_path_factory.mktemp("archive") / "a.ewb"
    archive.write(path, contents)
    assert read_all(path) == contents
    with zipfile.ZipFile(path) as other:
        assert other.testzip() is None
        assert {name: other.read(name) for name in other.namelist()} == contents


def test_every_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ewb"
    archive.write(path, {"a/one": b"first", "two": b"second content"})
    good = path.read_bytes()
    for position in range(len(good)):
        for bit in (0x01, 0x80):
            damaged = bytearray(good)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(Corrupt):
                read_all(path)


def test_every_truncation_and_extension_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ewb"
    archive.write(path, {"a": b"first", "b": b"second"})
    good = path.read_bytes()
    for data in (*(good[:length] for length in range(len(good))), good + b"\0", b"\0" + good, good + good):
        path.write_bytes(data)
        with pytest.raises(Corrupt):
            read_all(path)


def python_zip(path: Path, names: list[str], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            made.writestr(info, b"content " * 1000, compression)
    return path


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a//b", "C:\\x", "a\\b", ".hidden", "", "a/", "~x", "$HOME", "é"]
)
def test_names_that_could_escape_are_refused(tmp_path: Path, name: str) -> None:
    assert archive.name_problem(name)
    with pytest.raises(UsageError):
        archive.write(tmp_path / "w.ewb", {name: b""})
    with pytest.raises(Corrupt):
        archive.read_contents(python_zip(tmp_path / "r.ewb", [name]))


def forge(path: Path, names: list[str]) -> Path:
    """Writes an archive in our own format without the checks of `write`."""
    entries, data, offset = [], b"", 0
    for name in names:
        entry = archive.Entry(name, 0, 0, offset)
        data += archive._local_header(entry)
        entries.append(entry)
        offset = len(data)
    directory = b"".join(map(archive._central_header, entries))
    path.write_bytes(data + directory + archive._end_record(len(entries), len(directory), len(data)))
    return path


@pytest.mark.parametrize(
    "names", [["../x"], ["/x"], ["a", "a"], ["b", "a"], ["A", "a"], ["a", "a/b"], ["A", "a/b"], ["x" * 300]]
)
def test_forged_directories_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(Corrupt):
        archive.read_contents(forge(tmp_path / "f.ewb", names))
    assert archive.read_contents(forge(tmp_path / "g.ewb", ["a", "b"])).entries


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    names = sorted(f"f{i}" for i in range(archive.MAX_ENTRIES + 1))
    with pytest.raises(Corrupt):
        archive.read_contents(forge(tmp_path / "f.ewb", names))
    with pytest.raises(UsageError):
        archive.write(tmp_path / "w.ewb", dict.fromkeys(names, b""))


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        archive.read_contents(python_zip(tmp_path / "c.ewb", ["a"], zipfile.ZIP_DEFLATED))


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ewb"
    archive.write(path, {"a": b"first"})
    data = path.read_bytes()
    huge = data.replace(struct.pack("<II", 5, 5), struct.pack("<II", 2**31, 2**31))
    path.write_bytes(huge)
    with pytest.raises(Corrupt):
        archive.read_contents(path)


@given(data=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_noise_never_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "n.ewb"
    path.write_bytes(data)
    with pytest.raises(EdgewrightError):
        archive.read_contents(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.ewb"
    archive.write(path, {"a": b"first"})
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        archive.write(path, {"a": b"second", "b": tmp_path / "missing"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ewb"]
