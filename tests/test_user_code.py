"""Own code from ``path/file.py:name``."""

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from autocompress.errors import DataError, InputError
from autocompress.user_code import call_factory, is_code, load_callable


def write(folder: Path, text: str, name: str = "own.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_code_is_told_from_other_specifications():
    assert is_code("a/b.py:make")
    assert is_code("a/b.py")
    assert not is_code("resnet18")
    assert not is_code("data.npz")


def test_the_callable_is_found_and_the_same_file_is_loaded_once(tmp_path):
    place = write(tmp_path, "def make():\n    return 7\n")
    first = load_callable(f"{place}:make")
    assert first() == 7
    assert load_callable(f"{place}:make") is first


def test_an_edited_file_is_loaded_anew(tmp_path, monkeypatch):
    """Within a second and with as many bytes, where Python may keep what it compiled."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    place = write(tmp_path, "def make():\n    return 7\n")
    assert load_callable(f"{place}:make")() == 7
    write(tmp_path, "def make():\n    return 8\n")
    assert load_callable(f"{place}:make")() == 8


def test_what_it_makes_travels_to_a_process_that_cannot_import_the_file(tmp_path):
    (tmp_path / "source").mkdir()
    write(tmp_path / "source", "class Part:\n    value = 5\n", "part_beside.py")
    place = write(tmp_path / "source", "from part_beside import Part\n\ndef make():\n    return Part()\n")
    pickled = tmp_path / "made"
    pickled.write_bytes(cloudpickle.dumps(load_callable(f"{place}:make")()))
    code = f"import pickle, pathlib; print(pickle.loads(pathlib.Path({str(pickled)!r}).read_bytes()).value)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == "5"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{place}", r"own code is named path/file\.py:NAME, got .*name the callable"),
        ("{place}:", r"own code is named path/file\.py:NAME"),
        ("{folder}/owm.py:make", r"must be a Python file; there is none; near: own\.py"),
        ("{folder}/none/own.py:make", r"there is none; its folder .*none is not there either"),
        ("{place}:mak", r"must define mak; it does not; near: make"),
        ("{place}:number", r"number in .* must be callable, got int"),
    ],
)
def test_what_cannot_be_found_is_named_with_what_is_near(tmp_path, spec, message):
    place = write(tmp_path, "number = 1\ndef make():\n    return 7\n")
    with pytest.raises(DataError, match=message):
        load_callable(spec.format(place=place, folder=tmp_path), error=DataError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\ny = 1 / 0\n", r"must be importable; .*own\.py, line 3: ZeroDivisionError: division by zero"),
        ("x = (\n", r"own\.py, line 1: SyntaxError"),
        ("import sys\nsys.exit(3)\n", r"own\.py, line 2: SystemExit: 3"),
    ],
)
def test_a_file_that_fails_is_reported_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_callable(f"{write(tmp_path, text)}:make")


def test_a_factory_gets_what_its_signature_names(tmp_path):
    place = write(tmp_path, "def none():\n    return ()\ndef both(b, a, c=3):\n    return a, b, c\n")
    assert call_factory(f"{place}:none", {"a": 1}, error=InputError) == ()
    assert call_factory(f"{place}:both", {"a": 1, "b": 2, "d": 4}, error=InputError) == (1, 2, 3)


def test_a_factory_that_needs_more_or_fails_is_reported(tmp_path):
    place = write(tmp_path, "def more(a, z):\n    pass\ndef fails():\n    raise KeyError('gone')\n")
    with pytest.raises(InputError, match=r"may take a by name; .*:more also needs z; give them defaults"):
        call_factory(f"{place}:more", {"a": 1}, error=InputError)
    with pytest.raises(InputError, match=r"takes no arguments; .*:more also needs a, z"):
        call_factory(f"{place}:more", {}, error=InputError)
    with pytest.raises(InputError, match=r":fails must run; .*own\.py, line 4: KeyError: 'gone'"):
        call_factory(f"{place}:fails", {}, error=InputError)
