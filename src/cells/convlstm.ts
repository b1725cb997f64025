import { conv1d, conv2d } from "../ops/conv.js";
import { add, mul, sigmoid, tanh } from "../ops/elementwise.js";
import { split } from "../ops/movement.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** State of a convolutional LSTM: two images [N, ...sizes, F]. */
export interface ConvLSTMStates {
  readonly h: Tensor;
  readonly c: Tensor;
}

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
    const z = add(wx, convolution(h, weightHh, null, { padding: "same" }));
    const [zi, zf, zg, zo] = split(z, new Array<number>(4).fill(h.shape.at(-1)!), -1);
    const next = add(mul(sigmoid(zf), c), mul(sigmoid(zi), tanh(zg)));
    return { h: mul(sigmoid(zo), tanh(next)), c: next };
  });
}
