import platform

import pytest

from autocompress.hardware.machine import machine_from, package_versions, this_machine

ZEN5 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx_vnni avx512_bf16 avx512_vnni\n"
HASWELL = "model name\t: Intel(R) Core(TM) i7-4770\nflags\t\t: fpu avx avx2 fma\n"
SAPPHIRE = "model name\t: Intel Xeon\nflags\t\t: avx2 amx_int8\n"
PI5 = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B\n"
M2 = """hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
machdep.cpu.brand_string: Apple M2
"""
OLD_MAC = "machdep.cpu.brand_string: Intel(R) Core(TM) i5\nmachdep.cpu.leaf7_features: AVX2 BMI1\n"


def machine(cpuinfo: str, architecture: str):
    return machine_from(cpuinfo, architecture=architecture, cores=4, ram_bytes=2**30, os_name="os")


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "expected"),
    [
        (ZEN5, "x86_64", ("AMD EPYC", "avx2 avx512f avx512_vnni avx_vnni avx512_bf16", "uint8", False, 16)),
        (HASWELL, "x86_64", ("Intel(R) Core(TM) i7-4770", "avx2", "uint8", True, 8)),
        (SAPPHIRE, "AMD64", ("Intel Xeon", "avx2 amx_int8", "uint8", False, 8)),
        (PI5, "aarch64", ("Raspberry Pi 5 Model B", "neon dotprod", "int8", False, 4)),
        (M2, "arm64", ("Apple M2", "neon dotprod i8mm", "int8", False, 4)),
        (OLD_MAC, "x86_64", ("Intel(R) Core(TM) i5", "avx2", "uint8", True, 8)),
        ("", "riscv64", ("riscv64", "", "int8", False, 4)),
    ],
)
def test_cpu_text_decides_kernels(cpuinfo, architecture, expected):
    found = machine(cpuinfo, architecture)
    facts = (found.cpu, " ".join(found.isa), found.int8_activations, found.reduce_range, found.channel_block)
    assert facts == expected


def test_one_architecture_has_one_name():
    assert machine("", "arm64").architecture == machine("", "aarch64").architecture
    assert machine("", "AMD64").architecture == machine("", "x86_64").architecture


def test_this_machine_is_read_once_and_is_plausible():
    found = this_machine()
    assert found is this_machine()
    assert found.cores >= 1
    assert found.ram_bytes > 2**28
    assert platform.system() in found.os


def test_versions_name_python_and_the_runtime():
    versions = package_versions()
    assert versions["python"] == platform.python_version()
    assert versions["onnxruntime"].count(".") == 2
