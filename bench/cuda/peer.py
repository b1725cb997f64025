"""cuDNN through PyTorch, the other side of bench:cuda: answers the requests that ours.mjs describes."""
import json
import math
import sys
import time

import torch
from torch import nn

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHORTEST = 2e-3  # seconds of a measurement
device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
on_gpu = device.type == "cuda"


def measured(body, times):
    start = time.perf_counter()
    for _ in range(times):
        body()
    if on_gpu:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def prepare(case):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case["precision"] == "tf32"
    dtype = DTYPES[case["precision"]]
    steps, batch, hidden, layers = case["steps"], case["batch"], case["hidden"], case["layers"]
    model = CELLS[case["cell"]](hidden, hidden, layers, bidirectional=case["bidirectional"]).to(device, dtype)
    x = torch.randn(steps, batch, hidden, device=device, dtype=dtype)
    if case["ragged"]:
        lengths = torch.linspace(steps, steps // 4, batch).long()
        x = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
    gradient = None

    def forward():
        with torch.inference_mode():
            model(x)

    def train():
        nonlocal gradient
        model.zero_grad(set_to_none=True)
        y, _ = model(x)
        y = y.data if case["ragged"] else y
        if gradient is None:
            gradient = torch.randn_like(y)
        y.backward(gradient)

    def mode(body):
        for _ in range(2):
            measured(body, 1)
        times = max(1, math.ceil(SHORTEST / measured(body, 1)))
        return lambda: 1e6 * measured(body, times) / steps / layers

    return {"forward": mode(forward), "train": mode(train)}


def say(answer):
    print(json.dumps(answer), flush=True)


modes = {}
say({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version() if on_gpu else None})
for line in sys.stdin:
    request = json.loads(line)
    try:
        if "case" in request:
            modes = {}
            if on_gpu:
                torch.cuda.empty_cache()
            modes = prepare(request["case"])
            say({"ready": True})
        else:
            say({"us": modes[request["run"]]()})
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:200]})
