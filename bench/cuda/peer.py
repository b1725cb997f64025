"""cuDNN through PyTorch, for bench/cuda/run.mjs: reads one case a line as JSON, answers with microseconds a step."""
import json
import statistics
import sys
import time

import torch
from torch import nn

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
on_gpu = device.type == "cuda"


def timed(body, repeats):
    for _ in range(3):
        body()
    times = []
    for _ in range(repeats):
        if on_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        body()
        if on_gpu:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def measure(case):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case["precision"] == "tf32"
    dtype = DTYPES[case["precision"]]
    steps, batch, hidden, layers = case["steps"], case["batch"], case["hidden"], case["layers"]
    model = CELLS[case["cell"]](hidden, hidden, layers, bidirectional=case.get("bidirectional", False)).to(device, dtype)
    x = torch.randn(steps, batch, hidden, device=device, dtype=dtype)
    if case.get("ragged"):
        lengths = torch.linspace(steps, steps // 4, batch).long()
        x = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
    with torch.inference_mode():
        forward = timed(lambda: model(x), 10)
    grad = None

    def step():
        nonlocal grad
        for p in model.parameters():
            p.grad = None
        y, _ = model(x)
        y = y.data if case.get("ragged") else y
        if grad is None:
            grad = torch.randn_like(y)
        y.backward(grad)

    return {"forward": forward / steps / layers, "train": timed(step, 6) / steps / layers}


print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version() if on_gpu else None}), flush=True)
for line in sys.stdin:
    try:
        print(json.dumps(measure(json.loads(line))), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:200]}), flush=True)
