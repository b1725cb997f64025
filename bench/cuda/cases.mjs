// The cases of bench:cuda, the most telling first, and the floor of a step on an H100.
const lstm = (hidden, batch, precision, more = {}) => ({ cell: "lstm", hidden, batch, precision, layers: 1, steps: 256, ...more });

const sizes = [64, 128, 160, 192, 256, 512, 768, 1024, 2048];

export const cases = [
  ...[64, 128, 256, 512, 1024].flatMap((h) => [1, 16].flatMap((b) => ["fp32", "bf16"].map((p) => lstm(h, b, p)))),
  ...[128, 256, 512, 1024].flatMap((h) => ["gru", "rnn"].map((cell) => lstm(h, 16, "fp32", { cell }))),
  ...[128, 256, 512].flatMap((h) => [
    lstm(h, 16, "bf16", { layers: 4 }),
    lstm(h, 16, "bf16", { bidirectional: true }),
    lstm(h, 16, "bf16", { ragged: true }),
  ]),
  ...sizes.flatMap((h) => [64, 128].flatMap((b) => ["fp32", "tf32", "bf16", "fp16"].map((p) => lstm(h, b, p)))),
  ...[160, 192, 768, 2048].flatMap((h) => [1, 16].flatMap((b) => ["fp32", "tf32", "bf16"].map((p) => lstm(h, b, p)))),
];

const gates = { lstm: 4, gru: 3, rnn: 1 };

/**
 * Microseconds below which no step can go on an H100: the products at the rate of the units that take them, and one
 * exchange of h where the weights of a layer do not fit one SM.
 */
export function floor({ cell, hidden, batch, precision }) {
  const half = precision === "bf16" || precision === "fp16";
  const multiplyAdds = gates[cell] * hidden * hidden * batch;
  const bytes = gates[cell] * hidden * hidden * (half ? 2 : 4);
  const blocks = Math.min(132, Math.max(1, Math.ceil(bytes / 200_000)));
  const aClock = half ? 2048 * 0.63 : precision === "tf32" ? 1024 * 0.63 : 128; // multiply-adds of an SM
  const exchange = blocks === 1 ? 0.05 : blocks <= 16 ? 0.3 : 0.8;
  const atWork = Math.max(blocks, Math.min(132, blocks * Math.ceil(batch / 8)));
  return multiplyAdds / (atWork * aClock) / 1755 + exchange;
}
