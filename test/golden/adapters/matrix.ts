import { deltaRule } from "../../../src/ops/deltaRule.js";
import { add, affine, div, exp, minimum, mul, neg, relu, scale } from "../../../src/ops/elementwise.js";
import { matrixScan, type MatrixScanned } from "../../../src/ops/matrixScan.js";
import { reshape, transpose } from "../../../src/ops/movement.js";
import { unit } from "../../../src/ops/norm.js";
import { tensor, zeros } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, type Adapter } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";
import { rwkv7Model } from "./pretrained.js";
import { leavesOf } from "./weights.js";

type Leaves = Readonly<Record<string, Tensor>>;
type Run = (at: (name: string) => Tensor, c: GoldenCase, place: Place, leaves: Leaves) => MatrixScanned;

/** Families whose tensors are [N, H, T, ...] instead of [N, T, H, ...]. */
const headsFirst = new Set(["retnet", "delta_rule", "rwkv5", "rwkv6"]);

/** Between the axes of the file and [N, T, H, ...]. */
function arranged(c: GoldenCase): (t: Tensor) => Tensor {
  const first = headsFirst.has(c.family) || (c.family === "rwkv7" && c.has("state0.S"));
  return (t) => (first ? transpose(t, [0, 2, 1, ...t.shape.slice(3).map((_, i) => i + 3)]) : t);
}

/** [N, H, V, K] <-> [N, H, K, V] */
const turned = (t: Tensor) => transpose(t, [0, 1, 3, 2]);

/** q / sqrt(K), as flash-linear-attention has it. */
const scaled = (q: Tensor) => scale(q, q.shape[3] ** -0.5);

/** log(1 - 2^(-5 - h)) of each head. */
const retention = (heads: number, { device, dtype }: Place) =>
  tensor(
    Array.from({ length: heads }, (_, h) => Math.log1p(-(2 ** (-5 - h)))),
    { device, dtype },
  );

/** elu(x) + 1 */
const feature = (x: Tensor) => add(relu(x), exp(minimum(x, zeros([], { device: x.device, dtype: x.dtype as "float32" }))));

/** Keys and queries of length 1 where the case has them so. */
const unitary = (c: GoldenCase) => (c.config.l2_normalised_q_and_k === false ? (t: Tensor) => t : unit);

const delta: Run = (at, c, _, leaves) => {
  const direction = unitary(c);
  return deltaRule({
    q: scaled(direction(at("q"))),
    k: direction(at("k")),
    v: at("v"),
    beta: at("beta"),
    logDecay: c.has("input.g") ? at("g") : null,
    initial: initial(leaves),
  });
};

const initial = (leaves: Leaves) => leaves["state0.S"] ?? null;

const runs: Readonly<Record<string, Run>> = {
  linear_attn(at, c, _, leaves) {
    const { feature_map: map, normalize } = c.config as { feature_map: string; normalize: boolean };
    const phi = map === "none" ? (t: Tensor) => t : feature;
    const z = leaves["state0.z"];
    const n0 = z ? reshape(z, [z.shape[0], ...z.shape.slice(2)]) : null;
    const inputs = { q: scaled(phi(at("q"))), k: phi(at("k")), v: at("v"), initial: initial(leaves), initialNormaliser: n0 };
    const result = matrixScan(inputs, { normaliser: normalize });
    if (!normalize) return result;
    return { ...result, output: div(result.output, affine(reshape(result.denominator!, [...result.denominator!.shape, 1]), 1, 1e-10)) };
  },
  retnet: (at, _, place) => matrixScan({ q: scaled(at("q")), k: at("k"), v: at("v"), logDecay: retention(at("q").shape[2], place) }),
  gla: (at, _, __, leaves) => matrixScan({ q: scaled(at("q")), k: at("k"), v: at("v"), logDecay: at("gk"), initial: initial(leaves) }),
  simple_gla: (at, _, __, leaves) =>
    matrixScan({ q: scaled(at("q")), k: at("k"), v: at("v"), logDecay: at("g"), initial: initial(leaves) }),
  delta_rule: delta,
  gated_delta_rule: delta,
  kda: delta,
  ssd(at, _, __, leaves) {
    const state = initial(leaves);
    const scanned = matrixScan({ q: at("C"), k: at("B"), v: at("X"), logDecay: at("A"), initial: state && turned(state) });
    return { ...scanned, state: turned(scanned.state) };
  },
  rwkv5: (at, _, __, leaves) =>
    matrixScan(
      { q: at("r"), k: at("k"), v: at("v"), logDecay: leaves["param.w"], initial: initial(leaves) },
      { read: "old", bonus: leaves["param.u"] },
    ),
  rwkv6: (at, _, __, leaves) =>
    matrixScan(
      { q: at("r"), k: at("k"), v: at("v"), logDecay: at("w"), initial: initial(leaves) },
      { read: "old", bonus: leaves["param.u"] },
    ),
  rwkv7(at, c, _, leaves) {
    const state = initial(leaves);
    if (state) {
      const kk = unit(at("kk"));
      return matrixScan({ q: at("q"), k: at("k"), v: at("v"), logDecay: at("w"), a: neg(kk), b: mul(kk, at("a")), initial: state });
    }
    const size = (c.config as { head_size: number }).head_size;
    const heads = (name: string) => {
      const t = at(name);
      return reshape(t, [...t.shape.slice(0, 2), t.shape[2] / size, size]);
    };
    const [q, k, v, key, a, w] = ["r", "k", "v", "kk", "a", "w"].map(heads);
    const kk = unit(key);
    const scanned = matrixScan({ q, k, v, logDecay: neg(exp(w)), a: neg(kk), b: mul(kk, a) });
    return { ...scanned, output: reshape(scanned.output, at("r").shape) };
  },
};

/** The operators of flash-linear-attention, RWKV and Mamba-2, on queries, keys and values as they are given. */
export const matrix: Adapter = {
  families: Object.keys(runs),

  run(c, place) {
    if (c.reference.includes("class RWKV")) return rwkv7Model(c, place);
    const leaves = leavesOf(c, place, ...Object.keys(c.under("input.")).map((name) => `input.${name}`));
    const arrange = arranged(c);
    const scanned = runs[c.family]((name) => arrange(leaves[`input.${name}`]), c, place, leaves);
    const { normaliser: z } = scanned;
    const outputs = {
      y: arrange(scanned.output),
      S: scanned.state,
      final_state: scanned.state,
      ...(z && { z: reshape(z, [z.shape[0], 1, ...z.shape.slice(1)]) }),
    };
    const promised = Object.entries(outputs).filter(([name]) => c.expected().includes(`output.${name}`));
    return differentiate(c, place, Object.fromEntries(promised), leaves);
  },
};
