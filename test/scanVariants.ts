import type { Backend } from "../src/backend/backend.js";
import { Generator, Mamba, MinGRU, MinLSTM, type ScanLayer } from "../src/index.js";

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
  Mamba: (where) => new Mamba(6, where),
  "Mamba, all options": (where) =>
    new Mamba(6, { stateSize: 3, convKernel: 2, expand: 1, timeStepRank: 4, bias: true, convBias: false, ...where }),
};
