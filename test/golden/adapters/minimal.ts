import { MinGRU, MinLSTM } from "../../../src/nn/layers.js";
import { concat, split, transpose } from "../../../src/ops/movement.js";
import { differentiate, prefixed, type Adapter } from "../adapter.js";

interface Config {
  readonly dim: number;
  readonly expansion_factor: number;
  readonly stepped: boolean;
}

/** minGRU and minLSTM of lucidrains, whose state is [N, 1, H]. A stepped case is called with one step at a time. */
export const minimal: Adapter = {
  families: ["mingru", "minlstm"],

  run(c, place) {
    const { dim, expansion_factor: expansion, stepped } = c.config as unknown as Config;
    const Layer = c.family === "mingru" ? MinGRU : MinLSTM;
    const layer = new Layer(dim, dim * expansion, { outputSize: c.has("param.to_out.weight") ? dim : undefined, ...place });
    layer.loadStateDict(c.under("param."));
    const x = c.leaf("input.x", place);
    const h0 = c.has("state0.h0") ? c.leaf("state0.h0", place) : undefined;
    let state = h0 && { h: transpose(h0, [1, 0, 2]) };
    const outputs = (stepped ? split(x, new Array<number>(x.shape[1]).fill(1), 1) : [x]).map((part) => {
      const result = layer.forward(part, { state });
      state = result.state;
      return result.output;
    });
    const finals = { y: concat(outputs, 1), h_n: transpose(state!.h, [1, 0, 2]) };
    return differentiate(c, place, finals, { "input.x": x, ...(h0 && { "state0.h0": h0 }), ...prefixed("param.", layer.stateDict()) });
  },
};
