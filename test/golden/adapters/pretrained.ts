import { dirname } from "node:path";
import { fromPretrained } from "../../../src/io/pretrained.js";
import type { CausalLM } from "../../../src/models/causalLM.js";
import { RWKV7ForCausalLM } from "../../../src/models/rwkv7.js";
import { leaves, type StateTree } from "../../../src/nn/stream.js";
import { mul } from "../../../src/ops/elementwise.js";
import { concat, reshape, slice, stack, transpose } from "../../../src/ops/movement.js";
import { sum } from "../../../src/ops/reduce.js";
import { noGrad } from "../../../src/tensor/graph.js";
import { scope } from "../../../src/tensor/scope.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { prefixed, values, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Place, Values } from "../case.js";

/** The outputs in inference mode, of the whole sequence and token by token, and the gradients in training mode. */
function compute(c: GoldenCase, place: Place, model: CausalLM, more: (state: StateTree) => Record<string, Tensor>): Computed {
  const ids = c.ints("input.input_ids", place);
  const outputs = scope(() =>
    noGrad(() => {
      model.eval();
      const { logits, state, hiddenStates } = model.forward(ids, { hiddenStates: true });
      return read({ logits, hidden_states: hiddenStates!, step_logits: stepped(model, ids), ...more(state) });
    }),
  );
  return scope(() => {
    model.train();
    sum(mul(model.forward(ids).logits, c.leaf("gout.logits", place, true))).backward();
    const gradients = [...model.namedParameters()].map(([name, p]) => [name, p.grad ? values(p.grad) : nothing(p)] as const);
    return { ...prefixed("output.", outputs), ...prefixed("grad.", Object.fromEntries(gradients)) };
  });
}

const read = (tensors: Record<string, Tensor>): Record<string, Values> =>
  Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, values(t)]));

/** The gradient of a parameter that a model has and does not use. */
const nothing = ({ shape, size }: Tensor): Values => ({ shape, data: new Float32Array(size) });

function stepped(model: CausalLM, ids: Tensor): Tensor {
  let state: StateTree | undefined;
  const logits = Array.from({ length: ids.shape[1] }, (_, t) => {
    const result = model.forward(slice(ids, 1, t, t + 1), { state });
    state = result.state;
    return result.logits;
  });
  return concat(logits, 1);
}

/** Whether the reference itself gave other logits token by token. */
function contradicts(c: GoldenCase): boolean {
  const [whole, steps] = ["output.logits", "output.step_logits"].map((name) => c.values(name).data);
  return Array.from(whole).some((v, i) => Math.abs(v - steps[i]) > 1e-6);
}

/** Folders that Transformers saved. */
export const pretrained: Adapter = {
  families: ["hf"],

  /** Stepping Mamba-2, Transformers does not keep to the limits of the step size: there the whole sequence counts. */
  wanted(c, tensor) {
    const stepped = c.config.class === "Mamba2ForCausalLM" && tensor === "output.step_logits";
    return stepped && contradicts(c) ? "output.logits" : tensor;
  },

  async run(c, place) {
    const model = await fromPretrained(dirname(c.stem), place);
    return compute(c, place, model, () => ({}));
  },
};

/** A whole RWKV-7. Its states of all layers are (B, layers, heads, values, keys) in the file. */
export function rwkv7Model(c: GoldenCase, place: Place): Computed {
  const parameters = c.under("param.");
  const shapes = new Map(Object.entries(parameters).map(([name, { shape }]) => [name, shape]));
  const model = new RWKV7ForCausalLM(RWKV7ForCausalLM.recognise(shapes)!, place);
  model.loadStateDict(parameters);
  const computed = compute(c, place, model, (state) => {
    const states = leaves(state).flatMap(([path, S]) => (path.endsWith(".att.S") ? [reshape(S, S.shape.slice(1))] : []));
    return { final_wkv_state: transpose(stack(states, 1), [0, 1, 2, 4, 3]) };
  });
  const renamed = Object.entries(computed).map(([name, v]) => [name.replace(/^grad\./, "grad.param."), v] as const);
  return Object.fromEntries(renamed);
}
