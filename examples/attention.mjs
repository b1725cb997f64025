// Causal attention (Vaswani et al. 2017) composed of the library's ops. Positions are told by a bias that falls with the
// distance (Press, Smith & Lewis 2022), and the state is a cache of keys and values that grows with the context.
import { add, concat, Linear, matmul, Module, reshape, scale, softmax, split, tensor, transpose } from "throughtime";

/** What is added to the scores of each head: -slope * distance to the past, minus infinity to the future, [1, H, T, S]. */
function biasOf(heads, steps, all) {
  const data = new Float32Array(heads * steps * all);
  for (let h = 0; h < heads; h++)
    for (let t = 0; t < steps; t++)
      for (let s = 0; s < all; s++) {
        const distance = all - steps + t - s;
        data[(h * steps + t) * all + s] = distance < 0 ? -Infinity : -distance * 2 ** ((-8 * (h + 1)) / heads);
      }
  return tensor(data, { shape: [1, heads, steps, all] });
}

export class Attention extends Module {
  constructor(size, { heads }) {
    super();
    this.heads = heads;
    this.all = new Linear(size, 3 * size);
    this.out = new Linear(size, size);
  }
  forward(x, { state } = {}) {
    const [n, steps, size] = x.shape;
    const { heads } = this;
    const width = size / heads;
    const byHead = (t) => transpose(reshape(t, [n, steps, heads, width]), [0, 2, 1, 3]);
    const [q, ownKeys, ownValues] = split(this.all.forward(x), [size, size, size], 2).map(byHead);
    const keys = state ? concat([state.keys, ownKeys], 2) : ownKeys;
    const values = state ? concat([state.values, ownValues], 2) : ownValues;
    const scores = add(matmul(scale(q, width ** -0.5), keys, { transposeB: true }), biasOf(heads, steps, keys.shape[2]));
    const read = matmul(softmax(scores), values);
    const output = this.out.forward(reshape(transpose(read, [0, 2, 1, 3]), [n, steps, size]));
    return { output, state: { keys, values } };
  }
}
