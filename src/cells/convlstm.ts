import { conv1d, conv2d } from "../ops/conv.js";
import { add, mul, sigmoid, tanh } from "../ops/elementwise.js";
import { split } from "../ops/movement.js";
import { applyFused } from "../tensor/apply.js";
import { defineFused, sameShape, showShape, size, type Fused } from "../tensor/op.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** State of a convolutional LSTM: two images [N, ...sizes, F]. */
export interface ConvLSTMStates {
  readonly h: Tensor;
  readonly c: Tensor;
}

/** The gates and the new state from the two products, at every place alike. The kernel reads ints [places, F]. */
const pointwise: Fused = defineFused({
  name: "step.lstm",
  shape([wx, rh, c]) {
    const units = c!.shape.at(-1)!;
    const gates = [...c!.shape.slice(0, -1), 4 * units];
    if (!sameShape(wx!.shape, gates) || !sameShape(rh!.shape, gates))
      throw new RangeError(
        `step.lstm: both products must be ${showShape(gates)} but are ${showShape(wx!.shape)} and ${showShape(rh!.shape)}`,
      );
    return { outputs: [c!, c!], ints: [size(c!.shape.slice(0, -1)), units] };
  },
  compose([wx, rh, c]) {
    const z = add(wx!, rh!);
    const [zi, zf, zg, zo] = split(z, new Array<number>(4).fill(c!.shape.at(-1)!), -1);
    const next = add(mul(sigmoid(zf), c!), mul(sigmoid(zi), tanh(zg)));
    return [mul(sigmoid(zo), tanh(next)), next];
  },
  cases: () =>
    [
      [1, 1],
      [7, 3],
      [2, 5, 16],
      [3, 2, 4, 33],
      [403, 20],
      [0, 4],
    ].map((shape) => {
      const gates = { shape: [...shape.slice(0, -1), 4 * shape.at(-1)!], low: -3, high: 3 };
      return { inputs: [gates, gates, { shape }], attrs: undefined };
    }),
});

/**
 * One step of the convolutional LSTM (Shi et al. 2015, equation 3, without its peepholes, as Keras), gate order
 * i, f, g, o. `*` is a convolution, `.` the product element by element; the convolution of h has stride 1 and zeros
 * around it ("same"), so that the state keeps its size:
 *
 *     z = W * x_t + b + U * h_{t-1}
 *     i = sigmoid(z_i)   f = sigmoid(z_f)   g = tanh(z_g)   o = sigmoid(z_o)
 *     c_t = f . c_{t-1} + i . g
 *     h_t = o . tanh(c_t)
 *
 * `wx` = W * x_t + b is [N, ...sizes, 4F], `weightHh` = U is [kernel..., F, 4F], the states are [N, ...sizes, F].
 */
export function convLSTMStep(wx: Tensor, weightHh: Tensor, { h, c }: ConvLSTMStates): ConvLSTMStates {
  return scope(() => {
    const convolution = weightHh.shape.length === 3 ? conv1d : conv2d;
    const [nextH, nextC] = applyFused(pointwise, [wx, convolution(h, weightHh, null, { padding: "same" }), c], undefined);
    return { h: nextH, c: nextC };
  });
}
