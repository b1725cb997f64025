import { scale } from "../../../src/ops/elementwise.js";
import { matrixMemory, type MatrixMemoryState } from "../../../src/ops/mlstm.js";
import { reshape, transpose } from "../../../src/ops/movement.js";
import { zeros } from "../../../src/tensor/create.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, type Adapter } from "../adapter.js";
import { leavesOf } from "./weights.js";

/** [N, H, T, D] <-> [N, T, H, D] */
const turned = (t: Tensor) => transpose(t, [0, 2, 1, 3]);

/** The mLSTM of NX-AI's xlstm as one step after the other, and in parallel; keys are scaled. */
export const mlstm: Adapter = {
  families: ["mlstm"],

  sameAs: (tensor) => (tensor === "output.y_parallel" ? "output.y" : tensor),

  run(c, place) {
    const leaves = leavesOf(c, place, ...["q", "k", "v", "i", "f"].map((name) => `input.${name}`));
    const [q, k, v, i, f] = ["q", "k", "v", "i", "f"].map((name) => turned(leaves[`input.${name}`]));
    const [rows, steps, heads, size] = q.shape;
    const gate = (t: Tensor) => reshape(t, [rows, steps, heads]);
    const [C, n, m] = ["C", "n", "m"].map((name) => leaves[`state0.${name}`] as Tensor | undefined);
    const state = C && n && m ? { C, n: reshape(n, [rows, heads, size]), m: reshape(m, [rows, heads]) } : null;
    // Steps begin with m = 0, the parallel form with m = -infinity, where eps counts for a little less.
    const zero = (shape: readonly number[]) => zeros(shape, { ...place });
    const start = { C: zero([rows, heads, size, size]), n: zero([rows, heads, size]), m: zero([rows, heads]) };
    const memory = (start: MatrixMemoryState | null) =>
      matrixMemory(
        { q, k: scale(k, size ** -0.5), v, inputGate: gate(i), forgetGate: gate(f), state: start },
        { eps: (c.config as { eps: number }).eps },
      );
    const { output, state: last } = memory(state ?? start);
    const outputs = {
      y: turned(output),
      C: last.C,
      n: reshape(last.n, [rows, heads, size, 1]),
      m: reshape(last.m, [rows, heads, 1, 1]),
      ...(c.has("output.y_parallel") && { y_parallel: turned(memory(null).output) }),
    };
    return differentiate(c, place, outputs, leaves);
  },
};
