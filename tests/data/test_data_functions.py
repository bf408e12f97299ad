import sys
import textwrap

import pytest

from edgewright.data import code_digest, data_spec, load_function, open_spec
from edgewright.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mydata.py").write_text(
        textwrap.dedent(
            """
            from edgewright.core.data import Sample
            import myhelper

            def pairs(count=4):
                for i in range(count):
                    yield [float(i), myhelper.TWO], i % 2

            def listed(split):
                return [Sample(f"{split}{i}", float(i)) for i in range(5)]

            def fails():
                yield 1.0, 0
                raise OSError("disk gone")

            def wrong():
                return [3.0]

            def number():
                return 3
            """
        )
    )
    (tmp_path / "myhelper.py").write_text("TWO = 2.0\n")
    return tmp_path


def dataset(root, **table):
    return open_spec(data_spec(root, {"test": {"reader": "function", **table}})).dataset("test")


def test_a_generator_is_called_for_every_pass(root):
    data = dataset(root, function="mydata:pairs", args={"count": 3})
    assert len(data) == 3
    assert data.has_labels
    for _ in range(2):
        assert [(s.id, s.value, s.label) for s in data] == [
            ("0", [0.0, 2.0], 0),
            ("1", [1.0, 2.0], 1),
            ("2", [2.0, 2.0], 0),
        ]


def test_rows_and_shuffle(root):
    assert [s.id for s in dataset(root, function="mydata:pairs", rows="1:4:2")] == ["1", "3"]
    table = {"function": "mydata:listed", "args": {"split": "t"}}
    assert [s.id for s in dataset(root, rows="3:", **table)] == ["t3", "t4"]
    shuffled = [s.id for s in dataset(root, shuffle=1, **table)]
    assert sorted(shuffled) == ["t0", "t1", "t2", "t3", "t4"] != shuffled
    with pytest.raises(DataError, match="shuffle needs data that can be indexed"):
        dataset(root, function="mydata:pairs", shuffle=1)


@pytest.mark.parametrize(
    ("function", "message"),
    [("fails", "OSError: disk gone"), ("wrong", "float"), ("number", "returned int"), ("listed", "TypeError")],
)
def test_functions_that_do_not_do_it(root, function, message):
    with pytest.raises(DataError, match=message) as caught:
        list(dataset(root, function=f"mydata:{function}"))
    assert caught.value.hint


def test_importing_leaves_no_trace(root):
    before, path = set(sys.modules), list(sys.path)
    function = load_function("mydata:pairs", root)
    assert next(function()) == ([0.0, 2.0], 0)
    assert sys.path == path
    assert not {"mydata", "myhelper"} & (set(sys.modules) - before)
    assert not (root / "__pycache__").exists()


def test_two_projects_may_use_one_name(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "mydata.py").write_text("from myhelper import VALUE\ndef value():\n    return VALUE\n")
    (other / "myhelper.py").write_text("VALUE = 5\n")
    assert load_function("mydata:value", other)() == 5
    assert next(load_function("mydata:pairs", root)())[1] == 0
    assert load_function("mydata:value", other)() == 5


def test_a_module_already_loaded_elsewhere_does_not_get_in_the_way(root, monkeypatch):
    stranger = type(sys)("myhelper")
    monkeypatch.setitem(sys.modules, "myhelper", stranger)
    assert next(load_function("mydata:pairs", root)())[0] == [0.0, 2.0]
    assert sys.modules["myhelper"] is stranger


def test_installed_modules_are_found(root):
    assert load_function("textwrap:dedent", root)("  a") == "a"
    assert code_digest("textwrap:dedent", root).startswith("sha256:")


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("mydata", "does not name a function", "module:function"),
        ("mydata:", "does not name", "module:function"),
        ("gone:f", "no module 'gone'", "beside the project"),
        ("mydata:gone", "no function 'gone'", "pairs"),
    ],
)
def test_references_that_lead_nowhere(root, reference, message, hint):
    with pytest.raises(ConfigError, match=message) as caught:
        load_function(reference, root, "[quality] metrics")
    assert "[quality] metrics" in caught.value.message
    assert hint in caught.value.hint


def test_a_module_that_raises(root):
    (root / "broken.py").write_text("import a_library_that_is_missing\n")
    with pytest.raises(ConfigError, match=r"ModuleNotFoundError.*a_library_that_is_missing"):
        load_function("broken:f", root)
    (root / "worse.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_function("worse:f", root)


def test_the_code_digest_follows_the_code(root):
    first = code_digest("mydata:pairs", root)
    assert code_digest("mydata:listed", root) == first
    (root / "myhelper.py").write_text("TWO = 3.0\n")
    assert code_digest("mydata:pairs", root) != first
    package = root / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    return 1\n")
    second = code_digest("pack.a:f", root)
    assert load_function("pack.a:f", root)() == 1
    (package / "b.py").write_text("")
    assert code_digest("pack.a:f", root) != second
    with pytest.raises(ConfigError, match="no module"):
        code_digest("gone:f", root)
