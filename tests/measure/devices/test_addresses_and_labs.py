"""What is an address, what is a lab, and what a reader is told where something is neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import ConfigError, UsageError
from edgewright.measure.devices.address import Address, parse_address
from edgewright.measure.devices.lab import address_of, device_of, load_lab
from edgewright.measure.devices.transports import start_module
from edgewright.measure.devices.wheels import Interpreter


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ssh://pi@raspberry.local", Address("ssh", "raspberry.local", "pi")),
        ("ssh://Jetson:2222", Address("ssh", "Jetson", "", 2222)),
        ("ssh://u@[fe80::1%eth0]:22", Address("ssh", "fe80::1%eth0", "u", 22)),
        ("adb://R58M123ABC", Address("adb", "R58M123ABC")),
        ("adb://192.168.1.7:5555", Address("adb", "192.168.1.7:5555")),
        ("local", Address("local")),
        ("ssh://a?python=~/v/bin/python&name=pi4", Address("ssh", "a", python="~/v/bin/python", name="pi4")),
    ],
)
def test_addresses(text: str, found: Address) -> None:
    assert parse_address(text) == found
    if "[" not in text:
        assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "pi@host", "http://host", "ssh://", "ssh://-oProxyCommand=x", "ssh://h:port", "ssh://h/path", "adb://-s x",
     "ssh://-x@h", "ssh://h;ls", "local://x", "ssh://h:99999"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_a_password_is_refused_and_not_shown() -> None:
    for text in ("ssh://pi:hunter2@host", "ftp://pi:hunter2@host", "ssh://pi:hunter2@host?pyhton=x"):
        with pytest.raises(UsageError) as caught:
            parse_address(text)
        assert "hunter2" not in str(caught.value)


def test_a_misspelt_option_names_the_near_one() -> None:
    with pytest.raises(UsageError, match='unknown key "pyhton"') as caught:
        parse_address("local?pyhton=x")
    assert "python" in caught.value.hint


def test_what_is_started_cannot_leave_its_quotes() -> None:
    address = parse_address("ssh://h?python=/a b/python&root=/x';touch pwned;'")
    command = start_module(address, "m", "it's").command
    assert command[-3:-1] == ("--", "h")
    assert command[-1].startswith("exec sh -c ")
    local = parse_address("local?python=/bin/echo&root=~/x y")
    assert start_module(local, "m", "it's").command == ("sh", "-c", "exec /bin/echo -u -m m 'it'\"'\"'s'")


LAB = """
[[devices]]
name = "pi4"
address = "ssh://pi@raspberry.local"
python = "~/venv/bin/python"
labels = ["arm", "kitchen"]

[[devices]]
name = "here"
address = "local"
labels = ["x86"]
config = "ssh_config"
"""


def test_a_lab_names_devices(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(LAB)
    lab = load_lab(tmp_path / "lab.toml")
    assert [each.name for each in lab.chosen([], ["arm"])] == ["pi4"]
    found = device_of("pi4", lab)
    assert (found.host, found.python, found.title) == ("raspberry.local", "~/venv/bin/python", "pi4")
    assert address_of(lab.devices[1]).config == str(tmp_path / "ssh_config")
    assert device_of("local", lab) == Address("local")
    assert parse_address(str(found)) == found
    with pytest.raises(UsageError, match='no device "pi5"') as caught:
        device_of("pi5", lab)
    assert "pi4" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[devices]]\nname='a'\naddress='nowhere'", 'device "a": "nowhere" is no address'),
        ("[[devices]]\nname='a'\naddress='local'\n[[devices]]\nname='a'\naddress='local'", 'devices are called "a"'),
        ("[[devices]]\nname='a'\nadress='local'", 'unknown key "adress"'),
        ("[[devices", "not TOML"),
    ],
)
def test_a_wrong_lab_file_says_where(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load_lab(tmp_path / "lab.toml")


def test_a_lab_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_lab(Path("none.toml"))


def test_platforms_of_wheels_follow_the_c_library() -> None:
    glibc = Interpreter((3, 11), "aarch64", "Linux", ("glibc", "2.31")).platforms
    assert glibc[0] == "manylinux_2_31_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(glibc)
    assert "manylinux_2_32_aarch64" not in glibc
    assert Interpreter((3, 12), "x86_64", "Linux", ("", "")).platforms == (
        "musllinux_1_2_x86_64",
        "musllinux_1_1_x86_64",
    )
