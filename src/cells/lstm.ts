import { add, affine, mul } from "../ops/elementwise.js";
import { defineCell, type Cell } from "../ops/sweep.js";
import { checkChoice, checkOptions } from "../tensor/check.js";
import type { Tensor } from "../tensor/tensor.js";
import { activationName, activationOf, memoised, type Activation, type CellActivations } from "./activation.js";

/** How a long short-term memory differs from that of the year 2000. */
export interface LSTMVariant extends CellActivations {
  /** Each gate sees the cell state of its own unit through a weight (Gers & Schmidhuber 2000). Default false. */
  readonly peephole?: boolean;
  /**
   * One gate for input and forget, whose other is 1 minus it: there is only the `"input"` gate and f = 1 - i (ONNX's
   * input_forget), or only the `"forget"` gate and i = 1 - f (TensorFlow's CoupledInputForgetGateLSTMCell).
   */
  readonly coupled?: "input" | "forget";
  /** A gate that is always open, with neither weights nor bias: NIG, NFG and NOG of Greff et al. 2017. */
  readonly without?: "input" | "forget" | "output";
  /** Of the cell state where the output reads it. Default: the `activation` of the candidate value. */
  readonly stateActivation?: Activation;
}

/** The names of the options in `LSTMVariant`. */
export const lstmVariant = ["peephole", "coupled", "without", "activation", "recurrentActivation", "stateActivation"] as const;

export type LSTMCell = Cell<string, "h" | "c", string>;

type Gate = "i" | "f" | "g" | "o";

const letters = { input: "i", forget: "f", output: "o" } as const;

const cells = new Map<string, LSTMCell>();

/**
 * Long short-term memory (Hochreiter & Schmidhuber 1997) with the forget gate (Gers, Schmidhuber & Cummins 2000),
 * gate order i, f, g, o as PyTorch, one that is missing left out. z = W x_t + b_ih + U h_{t-1} + b_hh for each gate:
 *
 *     i = sigmoid(z_i + p_i * c_{t-1})   f = sigmoid(z_f + p_f * c_{t-1})   g = tanh(z_g)
 *     c_t = f * c_{t-1} + i * g
 *     o = sigmoid(z_o + p_o * c_t)
 *     h_t = o * tanh(c_t)
 *
 * The peepholes p, in the order i, f, o of the gates there are, belong to `peephole`.
 *
 * @throws on coupled gates of which one is to be missing.
 */
export function lstmCell(variant: LSTMVariant = {}): LSTMCell {
  checkOptions("LSTM", variant, lstmVariant);
  const { peephole = false, coupled, without, activation = "tanh", recurrentActivation = "sigmoid" } = variant;
  if (coupled !== undefined) checkChoice("LSTM", "coupled", coupled, ["input", "forget"]);
  if (without !== undefined) checkChoice("LSTM", "without", without, ["input", "forget", "output"]);
  if (coupled && (without === "input" || without === "forget"))
    throw new RangeError(`LSTM: coupled gates need both the input and the forget gate, so without cannot be ${JSON.stringify(without)}`);
  const sigma = activationOf("LSTM", "recurrentActivation", recurrentActivation);
  const phi = activationOf("LSTM", "activation", activation);
  const psi = activationOf("LSTM", "stateActivation", variant.stateActivation ?? activation);
  const functions = [sigma, phi, psi].map(activationName).join("_");
  const parts = ["lstm", coupled && `coupled_${coupled}`, without && `no_${without}`, peephole && "peephole"];
  const name = [...parts, functions !== "sigmoid_tanh_tanh" && functions].filter(Boolean).join("_");
  const missing = [coupled === "input" && "f", coupled === "forget" && "i", without && letters[without]];
  const gates = (["i", "f", "g", "o"] as const).filter((gate) => !missing.includes(gate));
  const has = (gate: Gate) => gates.includes(gate);
  const define = () =>
    defineCell<string, "h" | "c", string>({
      name,
      gates,
      states: ["h", "c"],
      ...(peephole && { vectors: gates.filter((gate) => gate !== "g") }),
      normed: "c",
      fused: functions === "sigmoid_tanh_tanh" && !(coupled && without),
      step(wx, rh, { c }, { vectors, drop, clip, norm, carry }) {
        const z = (gate: Gate) => add(wx[gate], rh[gate]);
        const open = (gate: Gate, seen: Tensor) => sigma(peephole ? add(z(gate), mul(vectors[gate], seen)) : z(gate));
        const own = { i: has("i") ? open("i", c) : null, f: has("f") ? open("f", c) : null };
        const i = coupled === "forget" ? affine(own.f!, -1, 1) : own.i;
        const f = coupled === "input" ? affine(own.i!, -1, 1) : own.f;
        const g = drop(phi(z("g")));
        const next = clip(add(times(f, c), times(i, g)));
        const seen = norm(next);
        const o = has("o") ? open("o", next) : null;
        return { h: times(o, psi(seen)), c: carry(next, seen) };
      },
    });
  return memoised(cells, name, define);
}

/** gate * x, where a missing gate is 1. */
function times(gate: Tensor | null, x: Tensor): Tensor {
  return gate ? mul(gate, x) : x;
}

/** The usual one, as PyTorch has it. */
export const lstm = lstmCell();

for (const peephole of [false, true]) {
  lstmCell({ peephole });
  for (const coupled of ["input", "forget"] as const) lstmCell({ coupled, peephole });
  for (const without of ["input", "forget", "output"] as const) lstmCell({ without, peephole });
}
