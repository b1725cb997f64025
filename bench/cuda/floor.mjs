// Below what no step can go, as far as arithmetic tells: on an H100 or H200, whose units differ only in their memory.

const CLOCK = 1755; // MHz
const SMS = 132;
const FLOPS = { fp32: 256, tf32: 2048, bf16: 4096, fp16: 4096 }; // of an SM in a clock, dense
const REGISTERS = 128 * 1024; // bytes of weights that an SM keeps in registers,
const ROOM = 328 * 1024; //      and with shared memory
const SHARED = 128; // bytes that an SM reads of its shared memory in a clock,
const INBOUND = 64; // and of other SMs' or L2
const L2 = { bytes: 50e6, rate: 5.5e6 }; // bytes a microsecond
const GATES = 0.1; // microseconds of a step: exp and tanh

const gates = { lstm: 4, gru: 3, rnn: 1 };
const elementBytes = (precision) => (precision === "bf16" || precision === "fp16" ? 2 : 4);

/** What the tensor cores reach: more where there are rows enough for the instructions of a warp group. */
const efficiency = (precision, rows) => (precision === "fp32" ? 1 : rows >= 64 ? 0.9 : 0.63);

/**
 * Microseconds of a step of the recurrence whose weights are spread over `sms` SMs, each such team with its rows of the
 * batch: the product, or reading what of the weights is not in registers; then telling each other the new h.
 */
function withTeamsOf(sms, { cell, hidden, batch, precision }) {
  const bytes = elementBytes(precision);
  const weights = (gates[cell] * hidden * hidden * bytes) / sms;
  if (weights > ROOM) return Infinity;
  const teams = Math.min(Math.floor(SMS / sms), Math.ceil(batch / 8));
  const rows = 8 * Math.ceil(batch / teams / 8);
  const rate = FLOPS[precision] * efficiency(precision, rows);
  const product = (2 * gates[cell] * hidden * hidden * rows) / sms / rate / CLOCK;
  const read = Math.max(0, weights - REGISTERS) / SHARED / CLOCK;
  const latency = sms === 1 ? 0.05 : sms <= 16 ? 0.3 : 0.8;
  // Half of it can arrive while the product of the other half is taken.
  const inbound = sms === 1 ? 0 : (rows * hidden * bytes) / INBOUND / CLOCK / 2;
  return Math.max(product, read) + latency + inbound + GATES;
}

/** Microseconds of a step of the recurrence alone. `memory`: bytes a microsecond that the GPU reads of its memory. */
export function recurrence(c, memory = 3.35e6) {
  const resident = Math.min(...[1, 2, 4, 8, 16, SMS].map((sms) => withTeamsOf(sms, c)));
  if (resident < Infinity) return resident;
  const bytes = gates[c.cell] * c.hidden * c.hidden * elementBytes(c.precision);
  const read = bytes / (bytes > L2.bytes ? memory : L2.rate);
  const product = (2 * gates[c.cell] * c.hidden * c.hidden * c.batch) / SMS / FLOPS[c.precision] / CLOCK;
  return Math.max(read, product) + 0.8 + GATES;
}

/** Microseconds of one product of all gates with a weight matrix or of its gradient, over all steps at once. */
function wholeProduct({ cell, hidden, batch, precision }) {
  return (2 * gates[cell] * hidden * hidden * batch) / SMS / (FLOPS[precision] * efficiency(precision, 64)) / CLOCK;
}

/**
 * Microseconds of a step and layer: forward, the recurrence and the product of the input; training, beside these the
 * recurrence backwards, which tells each other gradients of all gates, 1.6 times a step forward, and three products.
 * Two directions run side by side but for the products. Layers might overlap too, which is not counted here.
 */
export function floor(c, memory) {
  const step = recurrence(c, memory);
  const product = (c.bidirectional ? 2 : 1) * wholeProduct(c);
  return { forward: step + product, train: 2.6 * step + 4 * product };
}
