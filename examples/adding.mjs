// The adding problem (Hochreiter & Schmidhuber 1997): of a long row of numbers two are marked. What is their sum?
//   node examples/adding.mjs [--cell rnn,lstm,gru,indrnn,irnn,orthogonal] [--length 200] [--steps 2000] [--draw]
import { meanSquaredError, slice } from "throughtime";
import { options, race } from "./memory.mjs";

const given = options({ cell: "rnn,lstm,gru,indrnn", steps: 2000 });
const { length } = given;
const rows = 32;

// Each step has a number in [0, 1) and a mark, which is 1 in one step of the first half and in one of the second.
function batch(random) {
  const below = (n) => Math.floor(n * random.next());
  const inputs = new Float32Array(rows * length * 2);
  const targets = new Float32Array(rows);
  const half = length >> 1;
  for (let n = 0; n < rows; n++) {
    const at = (t) => (n * length + t) * 2;
    for (let t = 0; t < length; t++) inputs[at(t)] = random.next();
    for (const t of [below(half), half + below(length - half)]) {
      inputs[at(t) + 1] = 1;
      targets[n] += inputs[at(t)];
    }
  }
  return { inputs: { data: inputs, shape: [rows, length, 2] }, targets: { data: targets, shape: [rows, 1, 1] } };
}

// To say 1 each time is right on average, with the variance of the sum as mean squared error: 1/6.
const loss = ({ output }, { targets }) => meanSquaredError(slice(output, 1, length - 1), targets);
await race({ inputs: 2, outputs: 1, batch, loss, chance: 1 / 6, solved: 0.01 }, given);
