import { to } from "../ops/cast.js";
import { where } from "../ops/select.js";
import { sequenceMask } from "../ops/sequence.js";
import { crossEntropy } from "../ops/softmax.js";
import { full, tensor } from "../tensor/create.js";
import { noGrad } from "../tensor/graph.js";
import { Tensor } from "../tensor/tensor.js";
import type { TensorBatch } from "./source.js";

const IGNORED = -100;

/** Mean cross entropy of a result's `logits` [N, T, classes] against the targets [N, T], over the valid steps. */
export function sequenceLoss(name: string, result: unknown, { targets, lengths }: TensorBatch): Tensor {
  const { logits } = (result ?? {}) as { logits?: unknown };
  if (!(logits instanceof Tensor))
    throw new TypeError(`${name}: the model's forward must return { logits }, or the option loss must be given`);
  return crossEntropy(logits, lengths ? ignorePadding(targets, lengths) : targets, { ignoreIndex: IGNORED });
}

/** Targets [N, T] with everything behind the end of a row marked as ignored. */
function ignorePadding(targets: Tensor, lengths: Int32Array): Tensor {
  const { device } = targets;
  return noGrad(() => {
    const valid = sequenceMask(tensor(lengths, { device }), targets.shape[1]);
    // float32 holds every id below 2^24 exactly.
    return to(where(valid, to(targets, { dtype: "float32" }), full([], IGNORED, { device })), { dtype: "int32" });
  });
}
