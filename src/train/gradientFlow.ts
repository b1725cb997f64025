import type { Module } from "../nn/module.js";
import { stack } from "../ops/movement.js";
import type { Tensor } from "../tensor/tensor.js";
import { probed, type Probe, type ProbeOptions } from "./probe.js";
import { stateGradients } from "./trace.js";

/** How the gradient of a loss reaches back through time. */
export interface GradientFlow {
  readonly loss: number;
  /** Every layer and direction, in the order they ran. */
  readonly layers: readonly {
    /** Such as `rnn.l0` or `rnn.l1_reverse`. */
    readonly name: string;
    /** By state, `h` first: at [t] the 2-norm of the loss's gradient by that state of all rows after step t. */
    readonly norms: Readonly<Record<string, readonly number[]>>;
  }[];
}

/**
 * The norm of dL/dh_t at every step t, of every recurrent layer in a model: how far the gradient reaches (Bengio, Simard &
 * Frasconi 1994). Where it falls to nothing from the end to the start, nothing long ago can be learnt; where it grows,
 * training explodes. Other states, such as the c of an LSTM, have norms of their own: of the gradient by what is handed to
 * the next step in them, with h held.
 *
 * L is the loss of a batch, made as `train` makes it, or whatever a function gives that runs the model. The model is run
 * once, step by step, in the mode it is in, so call `eval()` before to be without dropout. Gradients gathered in the
 * parameters stay as they are. Steps after the end of a row count as zero.
 *
 * @throws if the model runs no recurrent layer, or the loss does not depend on one.
 */
export async function gradientFlow<R>(model: Module, probe: Probe, options: ProbeOptions<R> = {}): Promise<GradientFlow> {
  const found = probed("gradientFlow", model, probe, options, (loss, sweeps) => {
    if (!loss.requiresGrad) throw new Error("gradientFlow: the loss does not depend on anything that requires a gradient");
    const gradients = stateGradients(loss, sweeps);
    const layers = sweeps.map(({ name, states, lengths }, i) => ({
      name,
      lengths,
      states: gradients[i][0].map((_, k) => ({ name: states[k],
        t: stack(gradients[i].map((at) => at[k])) })), // prettier-ignore
    }));
    return { loss: loss.detach(), layers };
  });
  try {
    const layers = found.layers.map(async ({ name, lengths, states }) => ({
      name,
      norms: Object.fromEntries(await Promise.all(states.map(async (s) => [s.name, norms(s.t, await s.t.data(), lengths)] as const))),
    }));
    return { loss: await found.loss.item(), layers: await Promise.all(layers) };
  } finally {
    found.loss.dispose();
    for (const { states } of found.layers) for (const { t } of states) t.dispose();
  }
}

/** By step, the norm of [T, N, H] over the rows whose step is valid. In double precision: float32 cannot hold the squares. */
function norms({ shape: [steps, rows, width] }: Tensor, values: ArrayLike<number>, lengths: Int32Array | null): number[] {
  return Array.from({ length: steps }, (_, t) => {
    let sum = 0;
    for (let n = 0; n < rows; n++) {
      if (lengths && t >= lengths[n]) continue;
      for (let k = (t * rows + n) * width, end = k + width; k < end; k++) sum += values[k] * values[k];
    }
    return Math.sqrt(sum);
  });
}
