import { full, zeros } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, exp, mul } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { matrixSizes, type MatrixScanAttrs, type MatrixScanInputs } from "./matrixScanInputs.js";
import { concat, expand, reshape, select, slice, stack } from "./movement.js";
import { where } from "./select.js";
import { sequenceMask, zeroPadding } from "./sequence.js";

/** The meaning of a matrix scan: every step spelt out in ops. The normaliser is one more column, of values that are 1. */
export function matrixLoop(inputs: MatrixScanInputs, { read, normaliser }: MatrixScanAttrs): Tensor[] {
  const { n, steps, groups, heads, keys, values } = matrixSizes(inputs);
  const lengths = inputs.lengths ?? null;
  const options = { device: inputs.q.device, dtype: inputs.q.dtype as "float32" | "float64" };
  const valid = (t: Tensor | null | undefined) => (t ? zeroPadding(t, lengths) : null);
  const perHead = (t: Tensor) =>
    reshape(expand(reshape(t, [n, steps, groups, 1, keys]), [n, steps, groups, heads / groups, keys]), [n, steps, heads, keys]);
  const q = perHead(valid(inputs.q)!);
  const k = perHead(valid(inputs.k)!);
  const [a, b] = [valid(inputs.a), valid(inputs.b)];
  const ones = () => full([n, steps, heads, 1], 1, options);
  const v = normaliser ? concat([valid(inputs.v)!, ones()], -1) : valid(inputs.v)!;
  const decay = decayAt(inputs, valid);
  const mask = lengths && sequenceMask(lengths, steps, options.dtype);

  const initial = inputs.initial ?? zeros([n, heads, keys, values], options);
  const n0 = inputs.initialNormaliser ?? zeros([n, heads, keys], options);
  let state = normaliser ? concat([initial, reshape(n0, [n, heads, keys, 1])], -1) : initial;
  const row = (t: Tensor, step: number) => reshape(select(t, 1, step), [n, heads, 1, t.shape[3]]);
  const column = (t: Tensor, step: number) => reshape(select(t, 1, step), [n, heads, t.shape[3], 1]);
  const outputs: Tensor[] = [];
  for (let t = 0; t < steps; t++) {
    const w = decay(t);
    let next = add(w ? mul(w, state) : state, mul(column(k, t), row(v, t)));
    if (a && b) next = add(next, mul(column(b, t), matmul(row(a, t), state)));
    const counts = mask && reshape(select(mask, 1, t), [n, 1, 1, 1]);
    outputs.push(matmul(row(q, t), read === "old" ? state : next));
    state = counts ? where(counts, next, state) : next;
  }
  const width = v.shape[3];
  const all = steps > 0 ? reshape(stack(outputs, 1), [n, steps, heads, width]) : zeros([n, 0, heads, width], options);
  if (!normaliser) return [all, state];
  return [
    slice(all, 3, 0, values),
    slice(state, 3, 0, values),
    reshape(slice(all, 3, values), [n, steps, heads]),
    reshape(slice(state, 3, values), [n, heads, keys]),
  ];
}

/** w of a step, to be multiplied with [N, H, K, V]; null where nothing decays. */
function decayAt({ logDecay }: MatrixScanInputs, valid: (t: Tensor) => Tensor | null): (t: number) => Tensor | null {
  if (!logDecay) return () => null;
  const axes = logDecay.shape.length;
  if (axes <= 2) {
    const [heads, keys = 1] = logDecay.shape;
    const constant = reshape(exp(logDecay), [1, heads, keys, 1]);
    return () => constant;
  }
  const all = exp(valid(logDecay)!);
  const [n, , heads, keys = 1] = all.shape;
  return (t) => reshape(select(all, 1, t), [n, heads, keys, 1]);
}
