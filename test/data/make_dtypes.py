"""Writes dtypes.safetensors with the format's own library: one tensor of every dtype, and awkward names.

Run by hand: python make_dtypes.py, with torch==2.13.0 and safetensors==0.8.0.
"""
import pathlib
import torch
from safetensors.torch import save_file

save_file(
    {
        "f64": torch.tensor([0.1, -1e300], dtype=torch.float64),
        "f32": torch.tensor([[1, -2.5], [0.125, 3]]),
        "f16": torch.tensor([65504, -(2**-24), 1 / 3], dtype=torch.float16),
        "bf16": torch.tensor([3.14159, -(2.0**100)], dtype=torch.bfloat16),
        "i64": torch.tensor([-(2**40), 7]),
        "i32": torch.tensor([-(2**31), 7], dtype=torch.int32),
        "i16": torch.tensor([-300, 7], dtype=torch.int16),
        "i8": torch.tensor([-128, 0, 127], dtype=torch.int8),
        "u64": torch.tensor([2**40], dtype=torch.uint64),
        "u32": torch.tensor([2**32 - 1], dtype=torch.uint32),
        "u16": torch.tensor([65535], dtype=torch.uint16),
        "u8": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(3.5),
        "no rows": torch.zeros(0, 4),
        'ü漢"\n\U0001f600': torch.ones(1),
        "\uffee": torch.ones(1),
    },
    pathlib.Path(__file__).with_name("dtypes.safetensors"),
    metadata={"format": "pt"},
)
