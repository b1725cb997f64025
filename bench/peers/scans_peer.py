"""Linear recurrences in PyTorch, each as the loop over steps that defines it and in its parallel form. Needs torch.

One case a call: scans_peer.py '{"kind": "gla", "N": 8, "T": 1024, ...}' --form loop|parallel --threads 2 --rounds 3
prints {"train_ms": .., "infer_ms": ..}, the least of the rounds. The parallel forms are those of the publications: a scan
in logarithms for minGRU (Heinsen 2023), chunks of 64 steps for matrices (Yang et al. 2024), log-step doubling for Mamba.
"""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

CHUNK = 64


def mingru(c):
    """h = (1 - z) h + z g, of the gate's and the candidate's arguments."""
    k, g = (torch.randn(c["N"], c["T"], c["D"], requires_grad=True) for _ in range(2))

    def loop():
        z, x = k.sigmoid(), torch.where(g >= 0, g + 0.5, g.sigmoid())
        h, out = torch.zeros(c["N"], c["D"]), []
        for z_t, x_t in zip(z.unbind(1), x.unbind(1)):
            h = (1 - z_t) * h + z_t * x_t
            out.append(h)
        return torch.stack(out, 1)

    def parallel():
        log_x = torch.where(g >= 0, (F.relu(g) + 0.5).log(), -F.softplus(-g))
        star = F.pad((-F.softplus(k)).cumsum(1), (0, 0, 1, 0))
        values = torch.cat([torch.full((c["N"], 1, c["D"]), -math.inf), -F.softplus(-k) + log_x], 1)
        return (star + (values - star).logcumsumexp(1)).exp()[:, 1:]

    return [k, g], loop, parallel


def mamba(c):
    """h = exp(dt A) h + dt B u, y = C h."""
    N, T, D, S = (c[name] for name in ("N", "T", "D", "S"))
    u, dt = (torch.randn(N, T, D, requires_grad=True) for _ in range(2))
    B, C = (torch.randn(N, T, S, requires_grad=True) for _ in range(2))
    A = (-torch.rand(D, S) - 0.5).requires_grad_()

    def terms():
        step = F.softplus(dt)
        return (step[..., None] * A).exp(), (step * u)[..., None] * B[:, :, None]

    def loop():
        a, b = terms()
        h, out = torch.zeros(N, D, S), []
        for a_t, b_t, C_t in zip(a.unbind(1), b.unbind(1), C.unbind(1)):
            h = a_t * h + b_t
            out.append((h * C_t[:, None]).sum(-1))
        return torch.stack(out, 1)

    def parallel():
        a, b = terms()
        distance = 1
        while distance < T:
            b = torch.cat([b[:, :distance], b[:, distance:] + a[:, distance:] * b[:, :-distance]], 1)
            a = torch.cat([a[:, :distance], a[:, distance:] * a[:, :-distance]], 1)
            distance *= 2
        return (b * C[:, :, None]).sum(-1)

    return [u, dt, A, B, C], loop, parallel


def matrix(c):
    """S = diag(w) S + k v^T, or the delta rule; y = S^T q."""
    N, T, H, K, V = (c[name] for name in ("N", "T", "H", "K", "V"))
    kind = c["kind"]
    q, k = (torch.randn(N, H, T, K, requires_grad=True) for _ in range(2))
    v = torch.randn(N, H, T, V, requires_grad=True)
    extra = {"scalar": (N, H, T), "vector": (N, H, T, K), "delta": (N, H, T)}[kind]
    gate = (torch.rand(extra) if kind == "delta" else -0.1 * torch.rand(extra)).requires_grad_()
    read = lambda S, q: torch.einsum("nhk,nhkv->nhv", q, S)

    def loop():
        S, out = torch.zeros(N, H, K, V), []
        keys = F.normalize(k, dim=-1) if kind == "delta" else k
        for q_t, k_t, v_t, g_t in zip(q.unbind(2), keys.unbind(2), v.unbind(2), gate.unbind(2)):
            if kind == "delta":
                change = g_t[..., None] * (v_t - read(S, k_t))
                S = S + k_t[..., None] * change[:, :, None]
            else:
                w = g_t.exp()
                S = S * (w[..., None, None] if kind == "scalar" else w[..., None]) + k_t[..., None] * v_t[:, :, None]
            out.append(read(S, q_t))
        return torch.stack(out, 2)

    def parallel():
        n = T // CHUNK
        Q, Ks, Vs = (t.view(N, H, n, CHUNK, -1) for t in (q, k, v))
        S, out = torch.zeros(N, H, K, V), []
        if kind == "delta":
            Ks = F.normalize(Ks, dim=-1)
            beta = gate.view(N, H, n, CHUNK, 1)
            inner = torch.eye(CHUNK) + ((beta * Ks) @ Ks.transpose(-1, -2)).tril(-1)
            U, W = torch.linalg.solve_triangular(inner, beta * torch.cat([Vs, Ks], -1), upper=False).split([V, K], -1)
            scores = (Q @ Ks.transpose(-1, -2)).tril()
            for i in range(n):
                change = U[:, :, i] - W[:, :, i] @ S
                out.append(Q[:, :, i] @ S + scores[:, :, i] @ change)
                S = S + Ks[:, :, i].transpose(-1, -2) @ change
            return torch.stack(out, 2).view(N, H, T, V)
        if kind == "scalar":
            g = gate.view(N, H, n, CHUNK).cumsum(-1)
            mask = torch.full((CHUNK, CHUNK), -math.inf).triu(1)
            inside = ((Q @ Ks.transpose(-1, -2)) * (g[..., :, None] - g[..., None, :] + mask).exp()) @ Vs
            seen, kept, decay = Q * g.exp()[..., None], Ks * (g[..., -1:] - g).exp()[..., None], g[..., -1, None, None].exp()
        else:
            g = gate.view(N, H, n, CHUNK, K).cumsum(-2)
            seen, kept, decay = Q * g.exp(), Ks * (g[..., -1:, :] - g).exp(), g[..., -1, :, None].exp()
            inside = (seen @ (Ks * (-g).exp()).transpose(-1, -2)).tril() @ Vs
        states = kept.transpose(-1, -2) @ Vs
        for i in range(n):
            out.append(S)
            S = S * decay[:, :, i] + states[:, :, i]
        return (inside + seen @ torch.stack(out, 2)).view(N, H, T, V)

    return [q, k, v, gate], loop, parallel


KINDS = {"mingru": mingru, "mamba": mamba, "scalar": matrix, "vector": matrix, "delta": matrix}

parser = argparse.ArgumentParser()
parser.add_argument("case", type=json.loads)
parser.add_argument("--form", choices=["loop", "parallel"], required=True)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
given = parser.parse_args()
torch.set_num_threads(given.threads)
torch.manual_seed(0)
inputs, *forms = KINDS[given.case["kind"]](given.case)
form = forms[given.form == "parallel"]
if given.case.get("check"):
    a, b = (f().detach() for f in forms)
    assert torch.allclose(a, b, atol=1e-3, rtol=1e-3), (a - b).abs().max()


def timed(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def train():
    for t in inputs:
        t.grad = None
    form().sum().backward()


def infer():
    with torch.no_grad():
        form()


train()
print(json.dumps({"train_ms": min(timed(train) for _ in range(given.rounds)), "infer_ms": min(timed(infer) for _ in range(given.rounds)),
                  "torch": torch.__version__}))
