import { GRU, LSTM, RNN, type LSTMState } from "../../../src/nn/layers.js";
import { differentiate, prefixed, swapBatch, type Adapter } from "../adapter.js";

interface Config {
  readonly module: string;
  readonly input_size: number;
  readonly hidden_size: number;
  readonly num_layers: number;
  readonly bias: boolean;
  readonly bidirectional: boolean;
  readonly batch_first: boolean;
  readonly nonlinearity?: "tanh" | "relu";
  readonly proj_size?: number;
}

function build(config: Config, place: object) {
  const { module, input_size: I, hidden_size: H, num_layers: layers, bias, bidirectional, nonlinearity, proj_size: projSize } = config;
  const options = { layers, bias, bidirectional, ...place };
  if (module === "torch.nn.LSTM") return new LSTM(I, H, { ...options, projSize: projSize || undefined });
  if (module === "torch.nn.GRU") return new GRU(I, H, options);
  if (module === "torch.nn.RNN") return new RNN(I, H, { ...options, nonlinearity });
  throw new Error(`no layer stands for ${module}`);
}

/** torch.nn.RNN, LSTM and GRU. */
export const torch: Adapter = {
  families: ["torch_rnn", "torch_lstm", "torch_gru"],

  run(c, place) {
    const config = c.config as unknown as Config;
    const layer = build(config, place);
    layer.loadStateDict(c.under("param."));
    const x = c.leaf("input.x", place);
    const start = Object.fromEntries(["h", "c"].flatMap((s) => (c.has(`state0.${s}0`) ? [[s, c.leaf(`state0.${s}0`, place)]] : [])));
    const { output, state } = (layer as LSTM).forward(swapBatch(x, config.batch_first), {
      state: "h" in start ? (start as unknown as LSTMState) : undefined,
      lengths: c.has("input.lengths") ? Int32Array.from(c.values("input.lengths").data) : undefined,
    });
    const finals = Object.fromEntries(Object.entries(state).map(([s, t]) => [`${s}_n`, t]));
    return differentiate(
      c,
      place,
      { y: swapBatch(output, config.batch_first), ...finals },
      {
        "input.x": x,
        ...Object.fromEntries(Object.entries(start).map(([s, t]) => [`state0.${s}0`, t])),
        ...prefixed("param.", layer.stateDict()),
      },
    );
  },
};
