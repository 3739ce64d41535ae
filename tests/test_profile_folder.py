"""A profile on disk: nothing finished is lost, what is broken is named by line, and it holds for its own machine."""

import json
import re

import pytest
import yaml
from made_up_profile import HERE, made_profile, observation
from stand_in_predictor import install

from autocompress.errors import OutputError, ProfileError
from autocompress.hardware.kept import FOLDER
from autocompress.hardware.predictor import kept_fit, profile
from autocompress.hardware.predictor.circumstances import differences
from autocompress.hardware.predictor.energy import EnergyCoefficients
from autocompress.hardware.predictor.kept_fit import REGRESSOR, predictor_in
from autocompress.hardware.predictor.memory import RamCoefficients
from autocompress.hardware.predictor.observation_log import LOG, read_log
from autocompress.hardware.predictor.profile import (
    FACTS,
    SCHEMA,
    append,
    merge,
    opened,
    put_aside,
    read_facts,
    read_observations,
    update_facts,
)


@pytest.fixture
def stand_in(monkeypatch):
    return install(monkeypatch)


def names(folder) -> list[str]:
    return [each.name for each in read_observations(folder)[0]]


def predictor(folder):
    return predictor_in(folder, read_facts(folder))


def test_what_was_added_comes_back_in_order_and_equal(tmp_path):
    opened(tmp_path / "p", HERE)
    append(tmp_path / "p", [observation(0)])
    append(tmp_path / "p", [observation(1), observation(2)])
    assert read_observations(tmp_path / "p") == ((observation(0), observation(1), observation(2)), ())


def test_the_facts_survive_the_disk(tmp_path):
    made = opened(tmp_path, HERE)
    assert read_facts(tmp_path) == made
    assert made.circumstances == HERE
    assert yaml.safe_load((tmp_path / FACTS).read_text())["schema"] == SCHEMA


def test_opening_again_changes_nothing(tmp_path):
    made = opened(tmp_path, HERE)
    assert opened(tmp_path, HERE) == made


def test_it_lies_in_the_cache_folder_by_its_circumstances(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    two = HERE.model_copy(update={"threads": 2})
    assert profile.place_of(HERE) == tmp_path / "profiles" / HERE.digest()
    assert profile.place_of(two) != profile.place_of(HERE)


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"must lie where files can be written, got .*file/p: .*another place with"):
        opened(tmp_path / "file" / "p", HERE)
    made_profile(tmp_path / "p")
    (tmp_path / "p" / LOG).unlink()
    (tmp_path / "p" / LOG).mkdir()  # no file can be opened in its place, whoever runs the test
    with pytest.raises(OutputError, match="must lie where files can be written"):
        append(tmp_path / "p", [observation(1)])


def test_a_line_that_was_cut_off_is_left_out_with_a_note_and_goes_when_more_is_added(tmp_path):
    made_profile(tmp_path, 3)
    log = tmp_path / LOG
    log.write_bytes(log.read_bytes()[:-25])
    found, notes = read_observations(tmp_path)
    assert [each.name for each in found] == ["drawn-0", "drawn-1"]
    assert notes == (f"{log}, line 3 was cut off in the middle and is left out",)
    append(tmp_path, [observation(7)])
    assert names(tmp_path) == ["drawn-0", "drawn-1", "drawn-7"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"name"', '"name', r"line 2, column \d+: must be JSON: .*; take the line out"),
        ('"rounds_us":[101.0', '"rounds_us":[-1.0', r"line 2, at rounds_us.0: Input should be greater than 0"),
        ('"rounds_us":[101.0', '"rounds_us":["x"', r"line 2, at rounds_us.0: Input should be a valid number.*got 'x'"),
        ('"family":"plain",', "", r"line 2, at family: Field required"),
        ('"family"', '"odd":1,"family"', r"line 2, at odd: Extra inputs are not permitted, got '1'"),
        ('[["float",[1,9],0]', "[3", r"line 2, at kernels: must hold kernels"),
        (
            "[1,9]",
            "[1,9.5]",
            r"line 2, at kernels: must hold kernels, a shape is of integers >= 0, got \[1, 9.5\]; take",
        ),
        ("[1,9]", "[-1,9]", r"line 2, at kernels: must hold kernels, a shape is of integers >= 0, got \[-1, 9\]"),
        ("[1,9]", "[true,9]", r"line 2, at kernels: must hold kernels, a shape is of integers >= 0, got \[True, 9\]"),
        ("MatMul", "\udcff", r"line 2, column \d+: must be UTF-8"),
    ],
)
def test_an_edited_line_is_named(tmp_path, before, after, message):
    made_profile(tmp_path, 3)
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    assert before in lines[1]
    lines[1] = lines[1].replace(before, after)
    (tmp_path / LOG).write_bytes("".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(ProfileError, match=message):
        read_observations(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("threads: 1", "threads: one", r"profile\.yaml, line \d+, at circumstances.threads: .*got 'one'; restore"),
        ("created_at:", "made_at:", r"profile\.yaml, line 1, at created_at: Field required"),
        ("circumstances:", "circumstances: [", r"profile\.yaml, line \d+, column \d+: must be YAML"),
        ("schema: 2", "schema: 3", r"profile\.yaml, line 1: this version reads schema 2, got 3; update autocompress"),
    ],
)
def test_an_edited_facts_file_is_named_with_its_line(tmp_path, before, after, message):
    made_profile(tmp_path)
    file = tmp_path / FACTS
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(ProfileError, match=message):
        read_facts(tmp_path)


def test_the_line_that_is_named_is_the_one_that_was_edited(tmp_path):
    made_profile(tmp_path)
    file = tmp_path / FACTS
    lines = file.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if "threads" in line)
    lines[place] = lines[place].replace("1", "many")
    file.write_text("\n".join(lines))
    with pytest.raises(ProfileError, match=rf"line {place + 1}, at circumstances.threads"):
        read_facts(tmp_path)


def test_facts_that_are_no_mapping_are_refused(tmp_path):
    (tmp_path / FACTS).write_text("nothing\n")
    with pytest.raises(ProfileError, match=r"profile.yaml, line 1: must map names to values, got 'nothing'"):
        read_facts(tmp_path)


def test_the_last_lines_alone_can_be_read_and_keep_their_numbers(tmp_path):
    made_profile(tmp_path, 5)
    found, _ = read_log(tmp_path / LOG, last=2)
    assert [each.name for each in found] == ["drawn-3", "drawn-4"]
    assert len(read_log(tmp_path / LOG, last=9)[0]) == 5
    (tmp_path / LOG).write_text((tmp_path / LOG).read_text() + "{broken\n")
    with pytest.raises(ProfileError, match="line 6, column 2"):
        read_log(tmp_path / LOG, last=2)


def test_a_profile_is_put_aside_in_place_of_the_one_before(tmp_path):
    folder = tmp_path / "profile"
    for count in (3, 2):
        made_profile(folder, count)
        aside = put_aside(folder)
        assert not folder.exists()
        assert len(names(aside)) == count


def test_a_folder_without_a_profile_says_what_makes_one(tmp_path):
    with pytest.raises(ProfileError, match=r"has none; `autocompress profile` makes one"):
        read_facts(tmp_path)


@pytest.mark.parametrize(
    ("change", "text", "next_step"),
    [
        ({"cpu": "other"}, "processor: the profile's other, here", "--allow-mismatch"),
        ({"isa": ()}, "instruction sets: the profile's none, here", "--allow-mismatch"),
        ({"onnxruntime": "0.1"}, "onnxruntime: the profile's 0.1, here", "`autocompress profile`"),
        ({"threads": 2}, "threads: the profile's 2, here 1", "or ask for --threads 2"),
    ],
)
def test_a_profile_of_other_circumstances_is_refused_with_what_differs(tmp_path, change, text, next_step):
    theirs = HERE.model_copy(update=change)
    made_profile(tmp_path, circumstances=theirs)
    assert len(differences(theirs, HERE)) == 1
    with pytest.raises(ProfileError, match=re.escape(text)) as refused:
        opened(tmp_path, HERE)
    assert next_step in str(refused.value)


def test_everything_that_differs_is_said(tmp_path):
    theirs = HERE.model_copy(update={"cpu": "other", "threads": 2})
    assert len(differences(theirs, HERE)) == 2


def test_merging_takes_over_what_is_new(tmp_path):
    first, second = made_profile(tmp_path / "a", 2), made_profile(tmp_path / "b", 4)
    append(second, [observation(1, us=500.0)])  # the same network measured again
    assert merge(first, second) == 3
    assert names(first) == ["drawn-0", "drawn-1", "drawn-2", "drawn-3", "drawn-1"]
    assert merge(first, second) == 0


@pytest.mark.parametrize("mine", [None, RamCoefficients(base=1.0)])
def test_merging_takes_coefficients_over_where_there_are_none(tmp_path, mine):
    first, second = made_profile(tmp_path / "a", 2), made_profile(tmp_path / "b", 4)
    theirs = RamCoefficients(base=2.0)
    update_facts(first, ram=mine)
    update_facts(second, ram=theirs, energy=EnergyCoefficients(static_watts=7.0))
    merge(first, second)
    assert read_facts(first).ram == (mine or theirs)
    assert read_facts(first).energy == EnergyCoefficients(static_watts=7.0)


def test_profiles_of_different_machines_are_not_merged(tmp_path):
    first = made_profile(tmp_path / "a")
    second = made_profile(tmp_path / "b", circumstances=HERE.model_copy(update={"cpu": "other"}))
    with pytest.raises(ProfileError, match="processor: the profile's other"):
        merge(first, second)
    assert len(names(first)) == 3


def test_the_fit_is_kept_until_observations_are_added(tmp_path, stand_in):
    made_profile(tmp_path)
    made = predictor(tmp_path)[0]
    assert predictor(tmp_path)[0] == made
    assert len(stand_in) == 1
    append(tmp_path, [observation(9)])
    assert predictor(tmp_path)[0] != made
    assert stand_in[1] == ["drawn-0", "drawn-1", "drawn-2", "drawn-9"]


def test_the_fit_is_made_again_where_observations_were_edited(tmp_path, stand_in):
    made_profile(tmp_path)
    predictor(tmp_path)
    log = tmp_path / LOG
    log.write_text(log.read_text().replace("102.0", "202.0"))
    predictor(tmp_path)
    assert len(stand_in) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1,', r"regressor.json, line 1, column \d+: must be JSON: .*; delete the file: 20 or more"),
        ("[]", r"regressor.json, line 1, column 1: must hold schema, observations and predictor"),
    ],
)
def test_a_broken_fit_is_named(tmp_path, stand_in, content, message):
    made_profile(tmp_path)
    (tmp_path / REGRESSOR).write_text(content)
    with pytest.raises(ProfileError, match=message):
        predictor(tmp_path)


def test_a_fit_whose_numbers_are_gone_is_named(tmp_path, stand_in):
    made_profile(tmp_path)
    predictor(tmp_path)
    kept = json.loads((tmp_path / REGRESSOR).read_text())
    del kept["predictor"]["known"]
    kept["digest"] = kept_fit._digest(kept["predictor"])
    (tmp_path / REGRESSOR).write_text(json.dumps(kept))
    with pytest.raises(ProfileError, match=r"must hold the numbers of a fit: KeyError 'known'; delete the file"):
        predictor(tmp_path)


def test_a_fit_whose_numbers_were_edited_is_named(tmp_path, stand_in):
    made_profile(tmp_path)
    predictor(tmp_path)
    file = tmp_path / REGRESSOR
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    assert predictor(tmp_path)[0].us_per_byte == 1e-4, "white space is no number"
    file.write_text(file.read_text().replace("0.0001", "0.0002"))
    with pytest.raises(
        ProfileError, match=r"regressor.json, line 1: must hold the numbers that were fitted, .* delete"
    ):
        predictor(tmp_path)


def test_an_observation_that_comes_while_others_are_read_makes_the_fit_an_old_one(tmp_path, stand_in, monkeypatch):
    made_profile(tmp_path)

    def read_and_add(folder):
        found = read_observations(folder)
        append(folder, [observation(9)])
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(kept_fit, "read_observations", read_and_add)
        predictor(tmp_path)
    predictor(tmp_path)
    assert stand_in[-1] == ["drawn-0", "drawn-1", "drawn-2", "drawn-9"]


def test_a_fit_needs_some_files(tmp_path, stand_in):
    made_profile(tmp_path, 1)
    with pytest.raises(
        ProfileError, match=r"at least 2 measured networks, .* holds 1; `autocompress profile --profile"
    ):
        predictor(tmp_path)


def test_a_folder_that_cannot_be_written_still_predicts(tmp_path, stand_in, monkeypatch):
    made_profile(tmp_path)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(kept_fit, "write_whole", refuse)
    assert predictor(tmp_path)[0].known
