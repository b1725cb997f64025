import { Hopfield } from "../../../src/nn/hopfield.js";
import { hopfieldEnergy, hopfieldRetrieve } from "../../../src/ops/hopfield.js";
import { differentiate, prefixed, type Adapter, type Computed } from "../adapter.js";
import type { GoldenCase, Place } from "../case.js";

/** The retrieval alone: every state on the way, and the energy of the last. */
function retrieval(c: GoldenCase, place: Place): Computed {
  const { beta, steps } = c.config as { beta: number; steps: number };
  const patterns = c.leaf("input.patterns", place);
  const state = c.leaf("input.state", place);
  const states = Array.from(
    { length: steps },
    (_, i) => [`xi${i + 1}`, hopfieldRetrieve(state, patterns, { beta, steps: i + 1 })] as const,
  );
  const energy = hopfieldEnergy(states[steps - 1][1], patterns, { beta });
  return differentiate(c, place, { ...Object.fromEntries(states), energy }, { "input.patterns": patterns, "input.state": state });
}

interface Config {
  readonly input_size: number;
  readonly hidden_size: number;
  readonly num_heads: number;
  readonly update_steps_max: number;
  readonly update_steps_eps: number;
  readonly scaling: number;
}

/** The iterated scaled_dot_product_attention of PyTorch, and hflayers.Hopfield, whose parameters have our names. */
export const hopfield: Adapter = {
  families: ["hopfield"],

  run(c, place) {
    if (c.has("input.patterns")) return retrieval(c, place);
    const config = c.config as unknown as Config;
    const layer = new Hopfield(config.input_size, {
      hiddenSize: config.hidden_size,
      heads: config.num_heads,
      beta: config.scaling,
      updateSteps: config.update_steps_max,
      updateEps: config.update_steps_eps,
      ...place,
    });
    layer.loadStateDict(c.under("param."));
    const [state, stored, projection] = ["state", "stored", "proj"].map((name) => c.leaf(`input.${name}`, place));
    const { output } = layer.forward(state, { stored, projection });
    const leaves = { "input.state": state, "input.stored": stored, "input.proj": projection, ...prefixed("param.", layer.stateDict()) };
    return differentiate(c, place, { y: output }, leaves);
  },
};
