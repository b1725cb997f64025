"""Makes the golden cases in cases/: what PyTorch computes in float64, with every gradient.

Run by hand: python generate.py, with torch==2.13.0, numpy==2.4.6 and safetensors==0.8.0. The cases it writes are
committed; a second run writes the same bytes on the same machine.

Tensors: input.*, state0.*, param.* (exact float32 values), output.*, gout.* (weights of the loss, the sum over K of
sum(output.K * gout.K)) and grad.* for every input, state and parameter.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FOLDER = pathlib.Path(__file__).parent / "cases"
MODULES = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def write(family, name, reference, config, tensors, loss_over, f32, floor=2e-6):
    """f32: the same outputs and gradients as PyTorch computes them in float32."""
    described = {}
    for key, t in tensors.items():
        described[key] = {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
        if key.startswith(("output.", "grad.")):
            largest = t.abs().max().item()
            error = (t - f32[key].double()).abs().max().item()
            described[key] |= {"max_abs": largest, "f32_atol": max(10 * error, floor * (1 + largest))}
    about = {
        "name": name,
        "family": family,
        "reference": {"package": "torch", "version": torch.__version__, "object": reference},
        "config": config,
        "computed_in": "float64",
        "loss_over": loss_over,
        "tolerance": {"float64": {"rtol": 1e-9, "atol": 1e-10}},
        "tensors": described,
    }
    folder = FOLDER / family
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in about.items())
    (folder / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    path = folder / f"{name}.safetensors"
    save_file({k: t.detach().contiguous() for k, t in tensors.items()}, path)
    path.chmod(0o644)


def differentiate(outputs, leaves, gout):
    """Outputs and gradients of the loss under the names of the file."""
    loss = sum((outputs[k] * gout[k].to(outputs[k].dtype)).sum() for k in outputs)
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {f"output.{k}": t.detach() for k, t in outputs.items()} | {f"grad.{k}": g for k, g in zip(leaves, grads)}


def case(family, name, reference, config, fixed, leaves, compute):
    """compute(leaves) gives the outputs; it is run in float64 and in float32."""
    def run(dtype):
        own = {k: t.to(dtype).requires_grad_() for k, t in leaves.items()}
        return compute(own), own

    gout = {k: torch.randn(t.shape) for k, t in run(torch.float64)[0].items()}
    f64, f32 = (differentiate(*run(dtype), gout) for dtype in (torch.float64, torch.float32))
    tensors = leaves | fixed | f64 | {f"gout.{k}": t for k, t in gout.items()}
    write(family, name, reference, config, tensors, list(gout), f32)


def torch_case(kind, name, T, B, I, H, L=1, D=1, bias=True, state=True, lengths=None, batch_first=False, nonlinearity=None):
    extra = {"nonlinearity": nonlinearity} if nonlinearity else {}
    options = dict(num_layers=L, bidirectional=D == 2, bias=bias, batch_first=batch_first)
    module = MODULES[kind](I, H, **options, **extra)
    leaves = {"input.x": torch.randn(B, T, I) if batch_first else torch.randn(T, B, I)}
    states = ["h0", "c0"] if kind == "lstm" else ["h0"]
    if state:
        leaves |= {f"state0.{s}": torch.randn(L * D, B, H) for s in states}
    leaves |= {f"param.{k}": p.detach() for k, p in module.named_parameters()}

    def compute(own):
        params = {k.removeprefix("param."): t for k, t in own.items() if k.startswith("param.")}
        x = own["input.x"]
        if lengths:
            x = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
        start = tuple(own[f"state0.{s}"] for s in states) if state else None
        if state and kind != "lstm":
            start = start[0]
        y, last = torch.func.functional_call(module, params, (x, start))
        if lengths:
            y, _ = pad_packed_sequence(y, batch_first, total_length=T)
        return {"y": y} | (dict(zip(("h_n", "c_n"), last)) if kind == "lstm" else {"h_n": last})

    config = dict(module=f"torch.nn.{kind.upper()}", T=T, B=B, input_size=I, hidden_size=H, lengths=lengths, **options, **extra)
    fixed = {"input.lengths": torch.tensor(lengths)} if lengths else {}
    case(f"torch_{kind}", f"{kind}_{name}", f"torch.nn.{kind.upper()}", config, fixed, leaves, compute)


def gru_before_case(name, B, T, I, H, bias):
    """The GRU of Cho et al. 2014 in Keras' layout: gates z, r, h and h = z h + (1 - z) h~."""
    leaves = {"input.x": torch.randn(B, T, I), "state0.h0": torch.randn(B, H)}
    leaves |= {"param.kernel": torch.randn(I, 3 * H) / I**0.5, "param.recurrent_kernel": torch.randn(H, 3 * H) / H**0.5}
    if bias:
        leaves |= {"param.bias": torch.randn(3 * H)}

    def compute(own):
        h, W, U = own["state0.h0"], own["param.kernel"], own["param.recurrent_kernel"]
        y = []
        for t in range(T):
            wz, wr, wh = (own["input.x"][:, t] @ W + own.get("param.bias", 0)).split(H, 1)
            uz, ur, uh = U.split(H, 1)
            z, r = torch.sigmoid(wz + h @ uz), torch.sigmoid(wr + h @ ur)
            h = z * h + (1 - z) * torch.tanh(wh + (r * h) @ uh)
            y.append(h)
        return {"y": torch.stack(y, 1), "h_n": h}

    config = dict(B=B, T=T, input_size=I, units=H, reset_after=False, use_bias=bias, go_backwards=False, bidirectional_merge=None,
                  activation="tanh", recurrent_activation="sigmoid", mask=False)
    case("gru_reset_before", f"gru_reset_before_{name}", "the equations, step by step", config, {}, leaves, compute)


class Model(nn.Module):
    def __init__(self, kind, V, E, H, L):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(V, E), MODULES[kind](E, H, L), nn.Linear(H, V)


def training_case(name, kind, optimizer, V, E, H, L, B, T, steps, clip):
    first = Model(kind, V, E, H, L).state_dict()
    ids, targets = torch.randint(V, (steps, B, T)), torch.randint(V, (steps, B, T))

    def run(dtype):
        model = Model(kind, V, E, H, L)
        model.load_state_dict(first)
        model.to(dtype)
        step_by = eval(optimizer.replace("(", "(model.parameters(), ", 1), vars(torch.optim) | {"model": model})
        state, losses, norms = None, [], []
        for x, y in zip(ids, targets):
            step_by.zero_grad()
            output, state = model.rnn(model.embed(x).transpose(0, 1), state)
            state = tuple(s.detach() for s in state) if kind == "lstm" else state.detach()
            loss = nn.functional.cross_entropy(model.head(output).flatten(0, 1), y.T.flatten())
            loss.backward()
            losses.append(loss.detach())
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip))
            step_by.step()
        finals = dict(zip(("h_n", "c_n"), state)) if kind == "lstm" else {"h_n": state}
        finals |= {f"final.{k}": p.detach() for k, p in model.named_parameters()}
        return {f"output.{k}": t for k, t in (finals | {"loss": torch.stack(losses), "grad_norm": torch.stack(norms)}).items()}

    config = dict(cell=kind, vocab=V, embed=E, hidden_size=H, layers=L, B=B, T=T, steps=steps, clip_norm=clip, optimizer=optimizer)
    tensors = {f"param.{k}": p for k, p in first.items()} | {"input.ids": ids, "input.targets": targets} | run(torch.float64)
    # Rounding accumulates over the steps, hence the wider floor.
    write("training", name, f"nn.{kind.upper()} + {optimizer}", config, tensors, [], run(torch.float32), floor=2e-5)


if __name__ == "__main__":
    torch.manual_seed(20261122)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for kind in MODULES:
        torch_case(kind, "plain", T=5, B=3, I=4, H=6, state=False)
        torch_case(kind, "odd", T=9, B=1, I=7, H=13)
        torch_case(kind, "wide", T=3, B=33, I=1, H=17, batch_first=True)
        torch_case(kind, "one", T=1, B=2, I=3, H=1, bias=False)
        torch_case(kind, "lengths_bidirectional_stack", T=8, B=5, I=5, H=7, L=2, D=2, lengths=[3, 8, 1, 8, 5])
        torch_case(kind, "lengths_short", T=6, B=3, I=2, H=5, L=3, lengths=[4, 1, 2])
    torch_case("rnn", "relu", T=7, B=4, I=3, H=11, L=2, D=2, nonlinearity="relu")
    gru_before_case("odd", B=3, T=7, I=5, H=13, bias=True)
    gru_before_case("no_bias", B=1, T=4, I=3, H=8, bias=False)
    training_case("rnn_sgd", "rnn", "SGD(lr=0.5)", V=7, E=5, H=9, L=1, B=3, T=6, steps=12, clip=0.5)
    training_case("lstm_adam", "lstm", "Adam(lr=1e-2)", V=11, E=8, H=13, L=2, B=4, T=7, steps=15, clip=1.0)
    training_case("lstm_nesterov", "lstm", "SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)", V=6, E=4, H=7, L=1, B=2, T=5, steps=12, clip=None)
    training_case("gru_adamw", "gru", "AdamW(lr=1e-2, weight_decay=0.1)", V=9, E=6, H=11, L=1, B=3, T=5, steps=15, clip=0.25)
    training_case("gru_rmsprop", "gru", "RMSprop(lr=3e-3, alpha=0.95)", V=8, E=6, H=5, L=2, B=2, T=4, steps=12, clip=1.0)
    training_case("gru_adagrad", "gru", "Adagrad(lr=5e-2)", V=5, E=4, H=8, L=1, B=3, T=5, steps=12, clip=None)
