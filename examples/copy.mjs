// The copy task (Hochreiter & Schmidhuber 1997): read a symbol, wait for a long time, say it. With more --items than one
// their order must be kept too.
//   node examples/copy.mjs [--cell rnn,lstm,gru,indrnn,irnn,orthogonal] [--length 200] [--items 1] [--steps 600] [--draw]
import { crossEntropy, slice } from "throughtime";
import { options, race } from "./memory.mjs";

const given = options({ cell: "rnn,lstm,gru,irnn,orthogonal", steps: 600, items: 1 });
const { length, items } = given;
const rows = 32;
const symbols = 8;

// A symbol is one of the inputs at 1, waiting is all of them at 0, and the last input at 1 asks for an answer.
const steps = length + 2 * items;
function batch(random) {
  const inputs = new Float32Array(rows * steps * (symbols + 1));
  const targets = new Int32Array(rows * items);
  for (let n = 0; n < rows; n++) {
    const set = (t, input) => (inputs[(n * steps + t) * (symbols + 1) + input] = 1);
    for (let k = 0; k < items; k++) {
      const symbol = Math.floor(symbols * random.next());
      targets[n * items + k] = symbol;
      set(k, symbol);
      set(items + length + k, symbols);
    }
  }
  return { inputs: { data: inputs, shape: [rows, steps, symbols + 1] }, targets: { data: targets, shape: [rows, items] } };
}

const loss = ({ output }, { targets }) => crossEntropy(slice(output, 1, steps - items), targets);
await race({ inputs: symbols + 1, outputs: symbols, batch, loss, chance: Math.log(symbols), solved: 0.05 }, given);
