import { onnxGRU, onnxLSTM, onnxRNN, type OnnxAttributes, type OnnxWeights } from "../../../src/io/onnxOperators.js";
import type { LSTM, LSTMState } from "../../../src/nn/layers.js";
import { concat, reshape, slice, transpose } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { swapBatch, values, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Place, Values } from "../case.js";
import { readOnnx } from "../onnxFile.js";

const operators = { LSTM: onnxLSTM, GRU: onnxGRU, RNN: onnxRNN } as const;
type OperatorName = keyof typeof operators;

/** An operator as the case describes it. */
interface Operator {
  readonly op: OperatorName;
  readonly attributes: OnnxAttributes;
  readonly weights: OnnxWeights;
}

/** The sizes that a configuration states beside the attributes. */
const sizes = new Set(["op", "T", "B", "input_size"]);

/** The one operator of onnx_node and onnx_runtime: its weights are tensors of the case. */
function single(c: GoldenCase): Operator {
  const { config, attributes, reference } = c;
  const op = (config.op ?? reference.split(" ").at(-1)) as OperatorName;
  const given = attributes ?? Object.fromEntries(Object.entries(config).filter(([key]) => !sizes.has(key)));
  const optional = (name: string) => (keyOf(c, name) ? c.values(keyOf(c, name)!) : null);
  return { op, attributes: given, weights: { W: optional("W")!, R: optional("R")!, B: optional("B"), P: optional("P") } };
}

/** The operators of an exported graph in order, each a layer of the stack: their weights are the graph's own. */
function exported(c: GoldenCase): Operator[] {
  const { nodes, initializers } = readOnnx(`${c.stem}.onnx`);
  return nodes
    .filter(({ op }) => op in operators)
    .map(({ op, attributes, inputs: [, W, R, B, , , , P] }) => {
      const optional = (name: string | undefined) => (name ? initializers[name] : null);
      return { op: op as OperatorName, attributes, weights: { W: initializers[W], R: initializers[R], B: optional(B), P: optional(P) } };
    });
}

const make = ({ op, weights, attributes }: Operator, place: Partial<Place>) => operators[op](weights, attributes, place) as LSTM;

const keyOf = (c: GoldenCase, name: string) => ["input", "param", "state0"].map((prefix) => `${prefix}.${name}`).find((key) => c.has(key));

/** onnx_node and onnx_runtime: the inputs and outputs of one operator, Y [T, D, N, H] with a layout 1 of batches first. */
function runOperator(c: GoldenCase, place: Place): Computed {
  const operator = single(c);
  const layer = make(operator, place);
  const batchFirst = operator.attributes.layout === 1;
  const given = (name: string) => c.leaf(keyOf(c, name)!, place, true);
  const has = (name: string) => keyOf(c, name) !== undefined;
  const initial = Object.fromEntries(
    ["h", "c"].filter((s) => has(`initial_${s}`)).map((s) => [s, swapBatch(given(`initial_${s}`), !batchFirst)]),
  );
  const lengths = has("sequence_lens") ? Int32Array.from(c.values(keyOf(c, "sequence_lens")!).data) : undefined;
  const x = swapBatch(given("X"), batchFirst);
  const { output, state } = layer.forward(x, { state: "h" in initial ? (initial as unknown as LSTMState) : undefined, lengths });
  const [n, steps] = output.shape;
  const Y = reshape(output, [n, steps, layer.directions, layer.hiddenSize]);
  const computed: Computed = { "output.Y": values(batchFirst ? Y : transpose(Y, [1, 2, 0, 3])) };
  for (const [s, t] of Object.entries(state)) computed[`output.Y_${s}`] = values(swapBatch(t, !batchFirst));
  return computed;
}

/** onnx_export: what torch.onnx made of a whole stack; outputs are those of the PyTorch layer. */
function runExport(c: GoldenCase, place: Place): Computed {
  const batchFirst = c.config.batch_first === true;
  const states = ["h", "c"].filter((s) => c.has(`input.${s}0`)).map((s) => [s, c.leaf(`input.${s}0`, place, true)] as const);
  const finals: Record<string, Tensor[]> = { h: [], c: [] };
  let x = swapBatch(c.leaf("input.x", place, true), batchFirst);
  exported(c).forEach((operator, k) => {
    const layer = make(operator, place);
    const D = layer.directions;
    const own = Object.fromEntries(states.map(([s, t]) => [s, slice(t, 0, k * D, (k + 1) * D)]));
    const { output, state } = layer.forward(x, { state: own as unknown as LSTMState });
    for (const [s, t] of Object.entries(state)) finals[s].push(t);
    x = output;
  });
  const computed: Record<string, Values> = { "output.y": values(swapBatch(x, batchFirst)) };
  for (const [s] of states) computed[`output.${s}_n`] = values(concat(finals[s], 0));
  return computed;
}

const isExport = (c: GoldenCase) => c.family === "onnx_export";

/** The operators LSTM, GRU and RNN of ONNX, through their weights. */
export const onnx: Adapter = {
  families: ["onnx_node", "onnx_runtime", "onnx_export"],

  unsupported(c) {
    try {
      for (const operator of isExport(c) ? exported(c) : [single(c)]) make(operator, {});
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  },

  run: (c, place) => (isExport(c) ? runExport(c, place) : runOperator(c, place)),
};
