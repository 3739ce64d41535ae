"""Whether a profile holds here: times depend on processor, instruction sets, runtime and threads."""

from pathlib import Path

from autocompress.errors import ProfileError
from autocompress.hardware.kept import Circumstances

_WORDS = {"cpu": "processor", "isa": "instruction sets", "onnxruntime": "onnxruntime", "threads": "threads"}


def differences(profile: Circumstances, here: Circumstances) -> tuple[str, ...]:
    """What differs, each with both values."""
    return tuple(
        f"{words}: the profile's {_text(getattr(profile, name))}, here {_text(getattr(here, name))}"
        for name, words in _WORDS.items()
        if getattr(profile, name) != getattr(here, name)
    )


def require_same(profile: Circumstances, here: Circumstances, folder: Path) -> None:
    """Do nothing where a profile holds here.

    Raises:
        ProfileError: it does not; with what differs and what to do.
    """
    differing = differences(profile, here)
    if differing:
        raise ProfileError(
            "a profile holds for the processor, runtime and threads that it was measured with; "
            f"{folder} differs: {'; '.join(differing)}. {_next_step(profile, here)}"
        )


def _next_step(profile: Circumstances, here: Circumstances) -> str:
    threads = f" --threads {here.threads}" if here.threads > 1 else ""
    anew = f"Make one for here with `autocompress profile{threads}`"
    if profile.model_copy(update={"threads": here.threads}) == here:
        return f"{anew}, or ask for --threads {profile.threads}"
    return f"{anew}, or predict with --allow-mismatch and wider intervals"


def _text(value: object) -> str:
    return " ".join(value) or "none" if isinstance(value, tuple) else str(value)
