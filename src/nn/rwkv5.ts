import { add, exp, mul, neg, silu, sub } from "../ops/elementwise.js";
import { matrixScan } from "../ops/matrixScan.js";
import { reshape } from "../ops/movement.js";
import { checkCount, checkOptions } from "../tensor/check.js";
import { tensor } from "../tensor/create.js";
import type { Shape } from "../tensor/op.js";
import type { Generator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { depth, type DepthOptions } from "./depth.js";
import { HeadNorm } from "./headNorm.js";
import { Linear } from "./linear.js";
import { place, type Placement } from "./module.js";
import { ScanLayer, type ScanInput, type ScanState } from "./scanLayer.js";
import { tokenShift } from "./tokenShift.js";

export interface RWKV5Options extends Placement, DepthOptions {
  /** Numbers of a head. Default 64. */
  readonly headSize?: number;
  readonly generator?: Generator;
}

/** The state of the time mixing of RWKV-5 and RWKV-6. */
export type RWKV5State = ScanState<"x" | "S">;

/** @internal What RWKV-5 and RWKV-6 share: shapes, the products, and what is made of what the heads read. */
export abstract class HeadedTimeMix extends ScanLayer<"x" | "S"> {
  readonly heads: number;
  readonly headSize: number;
  readonly receptance: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly gate: Linear;
  readonly output: Linear;
  readonly ln_x: HeadNorm;
  abstract readonly time_faaaa: Tensor;
  private readonly depth: ReturnType<typeof depth>;

  constructor(
    where: string,
    readonly inputSize: number,
    options: RWKV5Options,
    others: readonly string[] = [],
  ) {
    super();
    checkOptions(where, options, ["headSize", "layer", "layers", "generator", "device", "dtype", ...others]);
    const { headSize = 64, generator, device, dtype } = options;
    checkCount(where, "inputSize", inputSize);
    checkCount(where, "headSize", headSize);
    this.depth = depth(where, options);
    if (inputSize % headSize !== 0)
      throw new RangeError(`${where}: inputSize must be a multiple of headSize but they are ${inputSize} and ${headSize}`);
    this.headSize = headSize;
    this.heads = inputSize / headSize;
    const product = () => new Linear(inputSize, inputSize, { bias: false, generator, device, dtype });
    this.receptance = product();
    this.key = product();
    this.value = product();
    this.gate = product();
    this.output = product();
    this.ln_x = new HeadNorm(this.heads, inputSize, { device, dtype });
  }

  get outputSize(): number {
    return this.inputSize;
  }

  protected stateShapes(): Record<"x" | "S", Shape> {
    const { heads, headSize } = this;
    return { x: [this.inputSize], S: [heads, headSize, headSize] };
  }

  /** r, k, v, g [N, T, C] and log w as `matrixScan` takes it, of x, and what step t-1 had and step t has not. */
  protected abstract mixtures(x: Tensor, change: Tensor): Record<"r" | "k" | "v" | "g" | "logDecay", Tensor>;

  protected run({ x, state, lengths }: ScanInput<"x" | "S">) {
    const { heads, headSize } = this;
    const [n, steps] = x.shape;
    const { shifted, last } = tokenShift(x, state.x, lengths);
    const { r, k, v, g, logDecay } = this.mixtures(x, sub(shifted, x));
    const byHead = (t: Tensor) => reshape(t, [n, steps, heads, headSize]);
    const scanned = matrixScan(
      { q: byHead(r), k: byHead(k), v: byHead(v), logDecay, initial: state.S, lengths },
      { read: "old", bonus: this.time_faaaa },
    );
    return { output: this.output.forward(mul(this.ln_x.forward(scanned.output), silu(g))), state: { x: last, S: scanned.state } };
  }

  /** A parameter made of each channel's number, and how far up the stack the layer is: from 0 to 1, and from 1 down. */
  protected each(shape: Shape, options: RWKV5Options, value: (i: number, rising: number, falling: number) => number): Tensor {
    const numbers = Array.from({ length: this.inputSize }, (_, i) => value(i, this.depth.rising, this.depth.falling));
    return tensor(numbers, { shape, requiresGrad: true, ...place(options) });
  }
}

/** What the decays start as, from fast to slow, and deeper layers slower. */
export const startingDecay = (size: number) => (i: number, rising: number) => -6 + 5 * (i / Math.max(1, size - 1)) ** (0.7 + 1.3 * rising);

/** What the current step's own key counts for at the start. */
export const startingBonus = (size: number) => (i: number, rising: number) =>
  rising * (1 - i / Math.max(1, size - 1)) + 0.1 * (((i + 1) % 3) - 1);

/**
 * Time mixing of RWKV-5 (Peng et al. 2024, "Eagle and Finch"), for each head; every letter has its own mix
 * mu * x_t + (1 - mu) * x_{t-1}:
 *
 *     r, k, v, g = W mix(x)       w = exp(-exp(time_decay))
 *     o_t = (S_{t-1} + diag(u) k_t v_t^T)^T r_t       S_t = diag(w) S_{t-1} + k_t v_t^T
 *     y_t = W_output (groupNorm(o_t) * silu(g_t))
 *
 * State `{ x, S }`: [1, N, C] and [1, N, H, K, V]. Parameters have the names of BlinkDL's code: `time_mix_k`, `time_mix_v`,
 * `time_mix_r`, `time_mix_g` [1, 1, C], `time_decay`, `time_faaaa` (u) [H, K], `receptance.weight`, `key.weight`,
 * `value.weight`, `gate.weight`, `output.weight` [C, C], `ln_x.weight`, `ln_x.bias` [C]. Its channel mixing is RWKV-4's.
 */
export class RWKV5TimeMix extends HeadedTimeMix {
  readonly time_mix_k: Tensor;
  readonly time_mix_v: Tensor;
  readonly time_mix_r: Tensor;
  readonly time_mix_g: Tensor;
  readonly time_decay: Tensor;
  readonly time_faaaa: Tensor;

  /** @throws on a size or option that is not known. */
  constructor(inputSize: number, options: RWKV5Options = {}) {
    super("RWKV5TimeMix", inputSize, options);
    const share = (value: (part: number, rising: number, falling: number) => number) =>
      this.each([1, 1, inputSize], options, (i, rising, falling) => value(i / inputSize, rising, falling));
    this.time_mix_k = share((part, _, falling) => part ** falling);
    this.time_mix_v = share((part, rising, falling) => part ** falling + 0.3 * rising);
    this.time_mix_r = share((part, _, falling) => part ** (0.5 * falling));
    this.time_mix_g = share((part, _, falling) => part ** (0.5 * falling));
    const perHead = [this.heads, this.headSize];
    this.time_decay = this.each(perHead, options, startingDecay(inputSize));
    this.time_faaaa = this.each(perHead, options, startingBonus(inputSize));
  }

  protected mixtures(x: Tensor, change: Tensor) {
    // mu * x_t + (1 - mu) * x_{t-1}
    const mixed = (mu: Tensor) => add(add(x, change), neg(mul(change, mu)));
    return {
      r: this.receptance.forward(mixed(this.time_mix_r)),
      k: this.key.forward(mixed(this.time_mix_k)),
      v: this.value.forward(mixed(this.time_mix_v)),
      g: this.gate.forward(mixed(this.time_mix_g)),
      logDecay: neg(exp(this.time_decay)),
    };
  }
}
