"""What is shown while a run goes on."""

import io
import re

import pytest
from rich.console import Console
from sample_result import sample_recipe, trial_log

from autocompress.budget import Metric
from autocompress.cli.progress import watching
from autocompress.cli.progress_lines import LineView
from autocompress.cli.progress_live import LiveView
from autocompress.cli.progress_render import render
from autocompress.cli.progress_state import KEPT, Seen, add_note, add_trial, begin_stage
from autocompress.cli.progress_words import trial_line
from autocompress.measurement import ModelFacts
from autocompress.result import TrialKind, TrialRecord, TrialState

BASELINE = ModelFacts(accuracy_val=0.97, latency_ms=2.0, size_bytes=1_000_000, peak_ram_bytes=10**7, macs=1, params=1)


def trial(number: int, accuracy: float | None = 0.9, *, ms: float = 1.0, **changes) -> TrialRecord:
    facts = ModelFacts(accuracy_val=accuracy, latency_ms=ms, size_bytes=400_000, macs=1, params=1)
    given = {
        "number": number,
        "kind": TrialKind.SEARCH,
        "state": TrialState.COMPLETE if accuracy is not None else TrialState.PRUNED,
        "summary": f"recipe {number}",
        "recipe": sample_recipe(),
        "facts": facts,
        "within_budget": ms <= 1,
    }
    return TrialRecord(**(given | changes))


def running(budget: str = "latency<=50%,accuracy_drop<=5%", **changes) -> Seen:
    given = {"title": "net · digits", "budget": budget, "baseline": BASELINE, "stage": "search", "ends": 300.0}
    return Seen(**(given | changes))


def picture(seen: Seen, *, now: float = 60.0, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render(seen, now, height))
    return console.file.getvalue().rstrip("\n").split("\n")


def drawn(seen: Seen, **size) -> str:
    return re.sub(" +", " ", "\n".join(picture(seen, **size)))


def full() -> Seen:
    """A run with more to say than a small screen holds."""
    seen = running("latency<=50%,size<=50%,ram<=12MB,macs<=1k,params<=1k,accuracy>=0.9", finished=(("plan", 9.0),) * 9)
    for record in trial_log():
        seen = add_trial(seen, record)
    for number in range(30):
        seen = add_note(seen, f"note {number}: " + "words " * 40)
    return seen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 18)])
def test_the_picture_fits_the_terminal(width, height):
    lines = picture(full(), width=width, height=height)
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width


def test_a_larger_terminal_shows_more_trials():
    small, large = (sum("int8" in line or "bit" in line for line in picture(full(), height=h)) for h in (24, 50))
    assert small < large


def test_time_left_and_progress_are_shown():
    text = drawn(running(done=3, total=11, what="uniform recipes", detail="a detail", stage_started=50.0))
    assert "▸ search 10s a detail" in text
    assert "1m00s, 4m00s left" in text
    assert "3/11 uniform recipes" in text


def test_a_run_beyond_its_time_is_ending():
    assert "ending" in drawn(running(ends=59.0))


def test_best_so_far_stands_between_the_original_and_the_limits():
    seen = add_trial(running(), trial(1, 0.91))
    text = drawn(seen)
    assert "accuracy, val 0.9700 0.9100 drop ≤ 0.0500 ✗" in text
    assert "latency 2 ms 1 ms ≤ 1 ms ✓" in text
    assert "size 1 MB 400 kB" in text
    assert "1 trained, 0 outside the budget, 0 failed" in text


def test_before_any_trial_limits_are_shown_without_a_mark():
    text = drawn(running())
    assert "latency 2 ms — ≤ 1 ms" in text
    assert "✓" not in text
    assert "✗" not in text


def test_the_best_is_the_most_accurate_within_the_costs():
    seen = running()
    for record in (trial(1, 0.90), trial(2, 0.94), trial(3, 0.99, ms=1.5), trial(4, 0.93), trial(5, None, ms=1.8)):
        seen = add_trial(seen, record)
    assert seen.best is not None
    assert seen.best.number == 2
    assert (seen.count(TrialState.COMPLETE), seen.count(TrialState.PRUNED)) == (4, 1)


def test_with_only_a_floor_the_best_is_the_cheapest_above_it():
    seen = running("accuracy>=0.9")
    for record in (trial(1, 0.95, ms=1.0), trial(2, 0.92, ms=0.5), trial(3, 0.80, ms=0.1)):
        seen = add_trial(seen, record.model_copy(update={"within_budget": True}))
    assert seen.best is not None
    assert seen.best.number == 2


def test_a_failed_trial_is_counted_and_shown_with_its_cause():
    failed = trial(3, None, state=TrialState.FAILED, facts=None, error="Traceback\n  File\nValueError: no such layer")
    text = drawn(add_trial(running(), failed))
    assert "1 failed" in text
    assert "ValueError: no such layer" in text


def test_stages_are_kept_with_their_time_and_repeats_are_added():
    seen = begin_stage(Seen(), "plan", "", 0.0)
    for name, now in (("plan", 4.0), ("search", 10.0), ("finish", 25.0)):
        seen = begin_stage(seen, name, "", now)
    assert seen.finished == (("plan", 10.0), ("search", 15.0))
    assert seen.stage == "finish"


def test_only_the_last_trials_and_notes_are_kept():
    seen = full()
    assert len(seen.trials) == len(seen.notes) == KEPT
    assert seen.notes[-1].startswith("note 29")


def test_a_note_that_is_repeated_is_kept_once():
    assert add_note(add_note(add_note(Seen(), "a"), "b"), "a").notes == ("b", "a")


def test_words_in_brackets_are_no_markup():
    seen = running(title="[red]net[/]", detail="[bold]x", what="[i]y", total=2, notes=("[z]",))
    text = drawn(add_trial(seen, trial(1, summary="[w]")))
    assert all(words in text for words in ("[red]net[/]", "[bold]x", "[i]y", "[z]", "[w]"))


def console_for(text: io.StringIO, *, terminal: bool) -> Console:
    return Console(file=text, width=80, height=24, force_terminal=terminal, color_system=None)


def test_lines_tell_every_event_once_and_progress_at_most_every_ten_seconds():
    now = [100.0]
    text = io.StringIO()
    view = LineView(console_for(text, terminal=False), clock=lambda: now[0])
    view.stage("plan", "what can be reached")
    view.deadline(90)
    for step in range(30):
        now[0] += 1
        view.progress(step, 30, "steps [a]")
    view.baseline(BASELINE)
    view.trial(trial(4))
    view.trial(trial(5, ms=1.5))
    view.trial(trial(6, None, ms=1.5))
    view.trial(trial(7, None, state=TrialState.FAILED, facts=None, error="KeyError: 'x'", control="uniform"))
    view.note("something [b]")
    assert text.getvalue().splitlines() == [
        "  0:00  plan: what can be reached",
        "  0:10    9/30 steps [a] (1m30s left)",
        "  0:20    19/30 steps [a] (1m30s left)",
        "  0:30    29/30 steps [a] (1m30s left)",
        "  0:30    original: accuracy 0.9700, 2 ms, 1 MB",
        "  0:30    trial 4: accuracy 0.9000, 1 ms, 400 kB: recipe 4",
        "  0:30    trial 5: accuracy 0.9000, 1.5 ms, 400 kB, outside the budget: recipe 5",
        "  0:30    trial 6: outside the budget, not trained: 1.5 ms, 400 kB: recipe 6",
        "  0:30    trial 7 (uniform): failed: KeyError: 'x'",
        "  0:30    note: something [b]",
    ]


def test_without_a_terminal_lines_are_written(capfd):
    with watching("net", "latency<=1ms", Metric.SIZE) as observer:
        observer.stage("load", "digits")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "  0:00  load: digits\n")


def test_the_live_view_gives_the_terminal_back_on_an_error():
    text = io.StringIO()
    view = LiveView(console_for(text, terminal=True), running())
    with view:
        view.stage("search", "now")
        view.progress(1, 2, "halves")
        view.trial(trial(1))
        view.note("a note")
        view.deadline(60)
        view.baseline(BASELINE)
    with pytest.raises(ZeroDivisionError), LiveView(view.console, view.seen):
        raise ZeroDivisionError
    assert (view.seen.stage, view.seen.done, view.seen.notes) == ("search", 1, ("a note",))
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert text.getvalue().count(hidden) == text.getvalue().count(shown) == 2
    assert text.getvalue().rindex(shown) > text.getvalue().rindex(hidden)


PREDICTED = ModelFacts(size_bytes=400_000, macs=1, params=1).with_prediction(1.5, (1.25, 1.75))


def test_a_predicted_latency_is_marked_in_the_lines_of_trials():
    record = trial(3, facts=PREDICTED.model_copy(update={"accuracy_val": 0.9}), within_budget=True)
    assert trial_line(record) == "trial 3: accuracy 0.9000, ≈ 1.5 ms, 400 kB: recipe 3"


def test_a_trial_that_was_never_built_shows_what_ruled_it_out():
    record = trial(3, None, facts=None, forecast_ms=7.25, within_budget=False)
    assert trial_line(record) == "trial 3: outside the budget as predicted, not built: ≈ 7.25 ms: recipe 3"
    assert "3 over ≈ 7.25 ms — recipe 3" in drawn(add_trial(running(), record))


def test_the_picture_marks_what_is_predicted_of_the_best():
    record = trial(3, facts=PREDICTED.model_copy(update={"accuracy_val": 0.95}), within_budget=True)
    assert "latency 2 ms ≈ 1.5 ms" in drawn(add_trial(running("latency<=90%"), record))


def test_a_trial_that_fell_behind_counts_as_trained_and_is_never_the_best():
    behind = trial(4, 0.99, state=TrialState.PRUNED, rung=1, steps=10)
    assert trial_line(behind) == "trial 4: behind others after 10 steps: accuracy 0.9900: recipe 4"
    seen = add_trial(add_trial(running(), trial(3, 0.96)), behind)
    assert (seen.count(TrialState.COMPLETE), seen.count(TrialState.PRUNED)) == (2, 0)
    assert seen.best.number == 3
