import { zeros } from "../tensor/create.js";
import type { MaybeTensor } from "../tensor/op.js";
import type { Tensor } from "../tensor/tensor.js";
import { add, affine, mul, sigmoid, tanh } from "./elementwise.js";
import { embedding } from "./embedding.js";
import { linear } from "./matmul.js";
import { expand, reshape, split, stack, unstack } from "./movement.js";
import { layerNorm } from "./norm.js";
import { clamp } from "./select.js";
import { reverseSequence, sequenceMask, zeroPadding } from "./sequence.js";
import type { CellSpec, Stages } from "./sweep.js";
import { checkSweep, type Named, type SweepAttrs } from "./sweepInputs.js";

/** The meaning of a sweep: every step spelt out in ops. Returns the output, the final states, and with a projection the hidden values. */
export function loop<G extends string, S extends string, V extends string>(
  cell: CellSpec<G, S, V>,
  inputs: Named<Tensor>,
  attrs: SweepAttrs,
): Tensor[] {
  const { n, steps, hidden, width } = checkSweep(cell.name, cell, inputs, attrs);
  const { weightIh, biasIh, lengths } = inputs;
  const x = zeroPadding(inputs.ids ? embedding(inputs.ids, inputs.x!) : inputs.x!, lengths);
  const { device } = x;
  const dtype = x.dtype as "float32" | "float64";
  const flip = (t: Tensor) => (attrs.reverse ? reverseSequence(t, lengths) : t);
  const projected = weightIh ? linear(x, weightIh, biasIh, attrs.precision) : biasIh ? add(x, biasIh) : x;
  const wx = unstack(flip(projected), 1);
  const at = { n, steps, flip };
  const drops = masksOf(inputs.dropHidden, at);
  const candidates = masksOf(inputs.dropCandidate, at);
  const updates = inputs.update.map((mask) => masksOf(mask, at));
  const valid = lengths && split(sequenceMask(lengths, steps, dtype), new Array<number>(steps).fill(1), 1);
  const product = recurrentProduct(cell, inputs, attrs);
  const project = projection(inputs, attrs);

  let state = byName(cell.states, (s, i) => inputs.initial[i] ?? zeros([n, s === "h" ? width : hidden], { dtype, device }));
  const outputs: Tensor[] = [];
  const hiddens: Tensor[] = [];
  wx.forEach((wxt, t) => {
    const raw = product(gatesOf(cell.gates, wxt), state, drops(t), stagesOf(cell, inputs, attrs, candidates(t)));
    const next: Record<S, Tensor> = { ...raw, h: project(raw["h" as S]) };
    const updated = byName(cell.states, (s, i) => blend(updates[i](t), next[s], state[s]));
    state = valid ? byName(cell.states, (s) => blend(valid[t], updated[s], state[s])) : updated;
    outputs.push(valid ? mul(valid[t], updated["h" as S]) : updated["h" as S]);
    if (inputs.weightHr) hiddens.push(valid ? mul(valid[t], raw["h" as S]) : raw["h" as S]);
  });
  const sequence = (parts: readonly Tensor[], last: number) => (steps > 0 ? flip(stack(parts, 1)) : zeros([n, 0, last], { dtype, device }));
  const finals = cell.states.map((s) => state[s]);
  return [sequence(outputs, width), ...finals, ...(inputs.weightHr ? [sequence(hiddens, hidden)] : [])];
}

/** mask * next + (1 - mask) * before; next where there is no mask. */
function blend(mask: MaybeTensor, next: Tensor, before: Tensor): Tensor {
  return mask ? add(mul(mask, next), mul(affine(mask, -1, 1), before)) : next;
}

/** A mask by step, each [N or 1, H], in the order of the sweep. */
function masksOf(
  mask: MaybeTensor,
  { n, steps, flip }: { n: number; steps: number; flip: (t: Tensor) => Tensor },
): (t: number) => MaybeTensor {
  if (!mask) return () => null;
  const [, moments, width] = mask.shape;
  if (moments === 1) return () => reshape(mask, [mask.shape[0], width]);
  const parts = unstack(flip(expand(mask, [n, steps, width])), 1);
  return (t) => parts[t];
}

/** One step from wx and the previous states: the recurrent products, then the cell. */
function recurrentProduct<G extends string, S extends string, V extends string>(
  cell: CellSpec<G, S, V>,
  inputs: Named<Tensor>,
  { precision }: SweepAttrs,
) {
  type Gates = Record<G, Tensor>;
  type States = Record<S, Tensor>;
  const weightHh = inputs.weightHh!;
  const { biasHh, gainHh } = inputs;
  const { inner } = cell;
  const times = (h: Tensor, weight: Tensor, bias: MaybeTensor, gain: MaybeTensor) => {
    if (cell.recurrent === "diagonal") return bias ? add(mul(h, weight), bias) : mul(h, weight);
    return gain ? layerNorm(linear(h, weight, null, precision), gain, bias) : linear(h, weight, bias, precision);
  };
  const dropped = (h: Tensor, mask: MaybeTensor) => (mask ? mul(h, mask) : h);
  if (!inner)
    return (wx: Gates, state: States, mask: MaybeTensor, stages: Stages<V>) =>
      cell.step(wx, gatesOf(cell.gates, times(dropped(state["h" as S], mask), weightHh, biasHh, gainHh)), state, stages);
  const outer = cell.gates.slice(0, -inner.gates.length);
  const rows = [outer.length, inner.gates.length].map((gates) => (gates * weightHh.shape[0]) / cell.gates.length);
  const parts = (t: MaybeTensor) => (t ? split(t, rows, 0) : [null, null]);
  const [weights, biases, gains] = [split(weightHh, rows, 0), parts(biasHh), parts(gainHh)];
  return (wx: Gates, state: States, mask: MaybeTensor, stages: Stages<V>) => {
    const rh = gatesOf(outer, times(dropped(state["h" as S], mask), weights[0], biases[0], gains[0]));
    const second = gatesOf(inner.gates, times(dropped(inner.of(wx, rh, state), mask), weights[1], biases[1], gains[1]));
    return cell.step(wx, { ...rh, ...second }, state, stages);
  };
}

function projection({ weightHr, biasHr }: Named<Tensor>, { outputActivation = "linear", precision }: SweepAttrs): (h: Tensor) => Tensor {
  if (!weightHr) return (h) => h;
  const activate = { linear: (t: Tensor) => t, tanh, sigmoid }[outputActivation];
  return (h) => activate(linear(h, weightHr, biasHr, precision));
}

function stagesOf<G extends string, S extends string, V extends string>(
  { vectors = [] }: CellSpec<G, S, V>,
  inputs: Named<Tensor>,
  { cellClip = 0, carryNormalised = false }: SweepAttrs,
  candidate: MaybeTensor,
): Stages<V> {
  const { gainC, biasC } = inputs;
  const rows = inputs.vectors ? unstack(inputs.vectors, 0) : [];
  return {
    vectors: byName(vectors, (_, i) => rows[i]),
    drop: (t) => (candidate ? mul(t, candidate) : t),
    clip: (t) => (cellClip > 0 ? clamp(t, -cellClip, cellClip) : t),
    norm: (t) => (gainC ? layerNorm(t, gainC, biasC) : t),
    carry: (t, normalised) => (carryNormalised ? normalised : t),
  };
}

function byName<K extends string, T>(names: readonly K[], make: (name: K, index: number) => T): Record<K, T> {
  return Object.fromEntries(names.map((name, i) => [name, make(name, i)])) as Record<K, T>;
}

/** [N, gates * H] -> [N, H] of each gate. */
function gatesOf<G extends string>(gates: readonly G[], t: Tensor): Record<G, Tensor> {
  const parts = split(t, new Array<number>(gates.length).fill(t.shape[1] / gates.length), 1);
  return byName(gates, (_, i) => parts[i]);
}
