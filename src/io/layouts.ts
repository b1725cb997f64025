import { showShape, size } from "../tensor/op.js";

/** Numbers with a shape, row-major. */
export interface NumericArray {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/**
 * Where each library keeps its gates, one letter a gate in the order of the blocks: LSTM i (input), f (forget),
 * g (candidate; c or j elsewhere), o (output); GRU r (reset), z (update), n (candidate; h elsewhere). Each gate is a block of
 * rows of the weights [gates * H, I], or of columns [I, gates * H]. Peepholes are [gates * H], or [gates, H] here.
 * PyTorch's are ours. The coupled LSTM of TensorFlow (contrib) computes no input gate.
 */
export const layouts = {
  throughtime: {
    gatesIn: "rows",
    rnn: "h",
    lstm: "ifgo",
    coupledInput: "igo",
    coupledForget: "fgo",
    gru: "rzn",
    peephole: "ifo",
    peepholeInput: "io",
    peepholeForget: "fo",
  },
  pytorch: { gatesIn: "rows", rnn: "h", lstm: "ifgo", gru: "rzn" },
  keras: { gatesIn: "columns", rnn: "h", lstm: "ifgo", gru: "zrn" },
  onnx: { gatesIn: "rows", rnn: "h", lstm: "iofg", gru: "zrn", peephole: "iof" },
  haste: { gatesIn: "columns", rnn: "h", lstm: "igfo", gru: "zrn" },
  tensorflow: { gatesIn: "columns", lstm: "igfo", coupledForget: "gfo", peephole: "ifo", peepholeForget: "fo" },
} as const;

export type Library = keyof typeof layouts;
/** Coupled gates compute the input gate, or the forget gate, and have the peepholes of that one and the output gate. */
export type GatedCell = Exclude<keyof typeof layouts.throughtime, "gatesIn">;

function gatesOf(library: Library, cell: GatedCell): string {
  const gates = (layouts[library] as Partial<Record<GatedCell, string>>)[cell];
  if (gates === undefined) throw new RangeError(`layouts: ${library} has no ${cell}`);
  return gates;
}

/** `a` with its axes in another order: axis k of the result is axis `axes[k]` of `a`. */
export function permute({ shape, data }: NumericArray, axes: readonly number[]): NumericArray {
  const strides = shape.map((_, axis) => size(shape.slice(axis + 1)));
  const to = axes.map((axis) => shape[axis]);
  const out = new Float64Array(data.length);
  const index = new Array<number>(to.length).fill(0);
  let from = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = data[from];
    for (let axis = to.length - 1; axis >= 0; axis--) {
      from += strides[axes[axis]];
      if (++index[axis] < to[axis]) break;
      from -= strides[axes[axis]] * to[axis];
      index[axis] = 0;
    }
  }
  return { shape: to, data: out };
}

/** The last axis first: [I, gates * H] to [gates * H, I], and a convolution's [...k, C, gates * F] to [gates * F, C, ...k]. */
const lastFirst = (rank: number) => [rank - 1, rank - 2, ...Array.from({ length: rank - 2 }, (_, axis) => axis)].slice(0, rank);
const firstLast = (rank: number) => [...Array.from({ length: rank - 2 }, (_, axis) => axis + 2), 1, 0].slice(-rank);

/** Blocks of the first axis, one for each letter of `from`, in the order of `to`; a block that `from` lacks is zero. */
export function reorderBlocks({ shape, data }: NumericArray, from: string, to: string): NumericArray {
  if (shape[0] % from.length !== 0)
    throw new RangeError(`layouts: the first axis must be a multiple of ${from.length} gates but the shape is ${showShape(shape)}`);
  const block = data.length / from.length;
  const out = new Float64Array(block * to.length);
  [...to].forEach((gate, g) => {
    const at = from.indexOf(gate);
    if (at >= 0) for (let i = 0; i < block; i++) out[g * block + i] = data[at * block + i];
  });
  return { shape: [(shape[0] / from.length) * to.length, ...shape.slice(1)], data: out };
}

/**
 * A weight, a bias or a peephole of another library in our layout. `as` is the cell here where it has other gates than
 * the one there: an LSTM of ONNX whose input and forget gates are coupled has rows for both.
 */
export function toOurs(a: NumericArray, library: Library, cell: GatedCell, as: GatedCell = cell): NumericArray {
  const rank = a.shape.length;
  const rows = layouts[library].gatesIn === "columns" && rank > 1 ? permute(a, lastFirst(rank)) : a;
  return reorderBlocks(rows, gatesOf(library, cell), gatesOf("throughtime", as));
}

/** The way back of `toOurs`, for weights and their gradients; gates that there are none of here become zero. */
export function fromOurs(a: NumericArray, library: Library, cell: GatedCell, as: GatedCell = cell): NumericArray {
  const rank = a.shape.length;
  const rows = reorderBlocks(a, gatesOf("throughtime", as), gatesOf(library, cell));
  return layouts[library].gatesIn === "columns" && rank > 1 ? permute(rows, firstLast(rank)) : rows;
}
