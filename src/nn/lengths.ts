import { tensor } from "../tensor/create.js";
import type { Tensor } from "../tensor/tensor.js";

/** Valid steps of each row as int32 [N]. @throws RangeError unless there is one integer from 0 to T for each row. */
export function checkLengths(where: string, x: Tensor, lengths: readonly number[] | Int32Array): Tensor {
  const [n, steps] = x.shape;
  if (lengths.length !== n) throw new RangeError(`${where}: lengths must have ${n} entries but has ${lengths.length}`);
  const bad = lengths.findIndex((v: number) => !Number.isInteger(v) || v < 0 || v > steps);
  if (bad >= 0) throw new RangeError(`${where}: lengths must be integers from 0 to ${steps} but entry ${bad} is ${lengths[bad]}`);
  return tensor([...lengths], { dtype: "int32", device: x.device });
}
