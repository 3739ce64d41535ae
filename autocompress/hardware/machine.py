"""What this machine is, as far as it changes which kernels run."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from autocompress.target import ActivationType, Machine

# Spellings of one instruction set in Linux's cpuinfo (x86 "flags", ARM "Features") and in macOS' sysctl.
ISA_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "avx2": ("avx2",),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni", "avx512vnni"),
    "avx_vnni": ("avx_vnni", "avxvnni"),
    "avx512_bf16": ("avx512_bf16", "avx512bf16"),
    "amx_int8": ("amx_int8", "amxint8"),
    "neon": ("asimd", "neon", "advsimd"),
    "dotprod": ("asimddp", "feat_dotprod"),
    "i8mm": ("i8mm", "feat_i8mm"),
}
INT8_ACCUMULATES_IN_32_BITS = {"avx512_vnni", "avx_vnni", "amx_int8"}
PACKAGES = ("autocompress", "torch", "onnx", "onnxruntime", "optuna", "ray", "timm", "numpy")
_FLAG_KEYS = ("flags", "features", "machdep.cpu.features", "machdep.cpu.leaf7_features")
_NAME_KEYS = ("model name", "machdep.cpu.brand_string", "hardware", "model", "cpu part")
_ONE_SPELLING = {"amd64": "x86_64", "arm64": "aarch64"}


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
    return machine_from(
        _cpuinfo(),
        architecture=platform.machine(),
        cores=_usable_cores(),
        ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os_name=f"{platform.system()} {platform.release()}",
    )


def machine_from(cpuinfo: str, *, architecture: str, cores: int, ram_bytes: int, os_name: str) -> Machine:
    """The machine whose ``/proc/cpuinfo`` (Linux) or ``sysctl hw machdep.cpu`` (macOS) reads ``cpuinfo``."""
    architecture = _ONE_SPELLING.get(architecture.lower(), architecture.lower())
    is_x86 = architecture in {"x86_64", "i686", "i386"}
    facts = _first_values(cpuinfo)
    words = _flag_words(facts)
    if architecture == "aarch64":
        words.add("neon")  # part of the base architecture; macOS does not list it
    isa = tuple(name for name, spellings in ISA_SPELLINGS.items() if words.intersection(spellings))
    return Machine(
        cpu=next((facts[key] for key in _NAME_KEYS if facts.get(key)), architecture),
        architecture=architecture,
        isa=isa,
        cores=cores,
        ram_bytes=ram_bytes,
        os=os_name,
        int8_activations=ActivationType.U8 if is_x86 else ActivationType.S8,
        reduce_range=is_x86 and not INT8_ACCUMULATES_IN_32_BITS.intersection(isa),
        channel_block=16 if "avx512f" in isa else 8 if is_x86 else 4,
    )


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _first_values(cpuinfo: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    return facts


def _flag_words(facts: Mapping[str, str]) -> set[str]:
    words = {word for key in _FLAG_KEYS for word in facts.get(key, "").lower().split()}
    # macOS on ARM: one line a feature, "hw.optional.arm.FEAT_DotProd: 1"
    words |= {key.rpartition(".")[2] for key, value in facts.items() if key.startswith("hw.optional.") and value == "1"}
    return words


def _cpuinfo() -> str:
    proc = Path("/proc/cpuinfo")
    if proc.exists():
        return proc.read_text(errors="replace")
    with contextlib.suppress(OSError):
        command = ["/usr/sbin/sysctl", "hw.optional", "machdep.cpu"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a fixed command
    return ""


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
