import type { Backend } from "../src/backend/backend.js";
import { DeltaNet, GatedDeltaNet, Generator, GLA, LinearAttention, MinGRU, MinLSTM, RetNet, type ScanLayer } from "../src/index.js";

export interface Where {
  readonly device: Backend;
  readonly dtype: "float32" | "float64";
  readonly generator: Generator;
}

/** Every layer whose recurrence is linear, with each of its options; all take 6 numbers a step. */
export const scanVariants: Readonly<Record<string, (where: Where) => ScanLayer<string>>> = {
  MinGRU: (where) => new MinGRU(6, 5, where),
  "MinGRU, bias, output": (where) => new MinGRU(6, 9, { bias: true, outputSize: 4, ...where }),
  MinLSTM: (where) => new MinLSTM(6, 5, where),
  "MinLSTM, bias, output": (where) => new MinLSTM(6, 9, { bias: true, outputSize: 4, ...where }),
  LinearAttention: (where) => new LinearAttention(6, { heads: 2, ...where }),
  "LinearAttention, sizes": (where) => new LinearAttention(6, { heads: 3, keySize: 5, valueSize: 4, ...where }),
  RetNet: (where) => new RetNet(6, { heads: 2, ...where }),
  GLA: (where) => new GLA(6, { heads: 1, gateRank: 2, ...where }),
  DeltaNet: (where) => new DeltaNet(6, { heads: 2, ...where }),
  "DeltaNet, convolution": (where) => new DeltaNet(6, { heads: 2, convKernel: 2, keySize: 4, valueSize: 5, ...where }),
  GatedDeltaNet: (where) => new GatedDeltaNet(6, { heads: 3, ...where }),
};
