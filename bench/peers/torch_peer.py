"""PyTorch's nn.LSTM, nn.GRU and nn.RNN on CPU, time-major (their native layout), eager."""
import torch
from torch import nn

import peer

MODULES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}


def build(c, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = MODULES[c.cell](c.I, c.H, c.layers, bidirectional=c.bidirectional)
    x = torch.randn(c.T, c.B, c.I, requires_grad=c.mode == "train")
    gradient = torch.randn(c.T, c.B, c.H * c.directions)
    parameters = list(module.parameters())

    def train():
        for p in (x, *parameters):
            p.grad = None
        module(x)[0].backward(gradient)

    @torch.inference_mode()
    def infer():
        module(x)

    zero = torch.zeros(c.layers * c.directions, c.B, c.H)
    state = (zero, zero.clone()) if c.cell == "lstm" else zero

    @torch.inference_mode()
    def stream():
        nonlocal state
        _, state = module(x, state)

    return {"train": train, "infer": infer, "stream": stream}[c.mode]


peer.main("torch", build, {"torch": torch.__version__})
