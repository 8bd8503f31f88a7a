"""What the processor can do."""

from pathlib import Path


def has_bf16() -> bool:
    """Whether it multiplies matrices in bf16 (x86 or ARM); PyTorch emulates that elsewhere, slower than fp32."""
    info = Path("/proc/cpuinfo")
    return info.exists() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(info.read_text().split())
