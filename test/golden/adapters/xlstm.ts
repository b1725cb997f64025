import { XLSTM, type XLSTMState } from "../../../src/nn/xlstm.js";
import { concat, slice } from "../../../src/ops/movement.js";
import type { Tensor } from "../../../src/tensor/tensor.js";
import { differentiate, prefixed, type Adapter } from "../adapter.js";

interface Config {
  readonly embedding_dim: number;
  readonly num_blocks: number;
  readonly slstm_at: readonly number[];
  readonly num_heads: number;
  readonly conv1d_kernel_size: number;
  readonly qkv_proj_blocksize: number;
  readonly mlstm_proj_factor: number;
  readonly ffn_proj_factor: number;
}

/**
 * The states that the reference's steps start from: zero, m as well. Here m is minus infinity before the first step, which it
 * is taken for while n is zero; so n is next to nothing instead.
 */
const started = (state: XLSTMState): XLSTMState =>
  state.map((block) =>
    Object.fromEntries(Object.entries(block).map(([name, t]) => [name, t.like("C" in block && name === "n" ? Number.MIN_VALUE : 0)])),
  );

/** The block stack of NX-AI's xlstm as a whole, and step by step. */
export const xlstm: Adapter = {
  families: ["xlstm_stack"],

  run(c, place) {
    const config = c.config as unknown as Config;
    const stack = new XLSTM(config.embedding_dim, {
      blocks: Array.from({ length: config.num_blocks }, (_, k) => (config.slstm_at.includes(k) ? "s" : "m")),
      heads: config.num_heads,
      convKernel: config.conv1d_kernel_size,
      blockSize: config.qkv_proj_blocksize,
      projFactor: config.mlstm_proj_factor,
      ffnFactor: config.ffn_proj_factor,
      ...place,
    });
    stack.loadStateDict(c.under("param."));
    const x = c.leaf("input.x", place);
    const steps: Tensor[] = [];
    let state: XLSTMState = started(stack.forward(slice(x, 1, 0, 1)).state);
    for (let t = 0; t < x.shape[1]; t++) {
      const stepped = stack.forward(slice(x, 1, t, t + 1), { state });
      steps.push(stepped.output);
      state = stepped.state;
    }
    const outputs = { y: stack.forward(x).output, y_stepped: concat(steps, 1) };
    return differentiate(c, place, outputs, { "input.x": x, ...prefixed("param.", stack.stateDict()) });
  },
};
