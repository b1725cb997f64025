// What a way through time can do at all, on three tasks made for that:
//   parity  is the number of ones so far odd? Tested on sequences twice as long: whoever solves it keeps track of a state
//   recall  pairs of key and value, then the keys in another order: whose value? (Arora et al. 2024, "Zoology")
//   copy    symbols between blanks, then all of them again in their order (selective copying, Gu & Dao 2023)
//   node examples/mechanisms.mjs [--tasks parity,recall,copy] [--families lstm,slstm,mlstm,mamba,transformer] [--steps 600]
import { parseArgs } from "node:util";
import { Adam, argmax, clipGradNorm, crossEntropy, Generator, manualSeed, noGrad, scope, tensor } from "throughtime";
import { rows } from "./draw.mjs";
import { families, LanguageModel } from "./familyModels.mjs";

const IGNORED = -100;
const batch = 32;
const shuffled = (list, random) => {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor((i + 1) * random.next());
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
};
const upTo = (n) => Array.from({ length: n }, (_, i) => i);

/** A task: how many symbols there are, and one example of them, with what is asked for at each step (IGNORED: nothing). */
const tasks = {
  parity: {
    symbols: 2,
    example(random, test) {
      const inputs = upTo(test ? 80 : 40).map(() => Math.floor(2 * random.next()));
      let odd = 0;
      return { inputs, targets: inputs.map((bit) => (odd ^= bit)) };
    },
  },
  recall: {
    symbols: 32,
    example(random) {
      const keys = shuffled(upTo(16), random).slice(0, 8);
      const values = keys.map(() => 16 + Math.floor(16 * random.next()));
      const asked = shuffled(upTo(8), random);
      const pairs = keys.flatMap((key, i) => [key, values[i]]);
      return {
        inputs: [...pairs, ...asked.map((i) => keys[i])],
        targets: [...pairs.map(() => IGNORED), ...asked.map((i) => values[i])],
      };
    },
  },
  copy: {
    symbols: 10,
    example(random) {
      const [blank, again] = [8, 9];
      const places = shuffled(upTo(32), random).slice(0, 8);
      const inputs = upTo(32).map((t) => (places.includes(t) ? Math.floor(8 * random.next()) : blank));
      return {
        inputs: [...inputs, ...places.map(() => again)],
        targets: [...inputs.map(() => IGNORED), ...inputs.filter((symbol) => symbol !== blank)],
      };
    },
  },
};

const draw = (task, random, test = false) => {
  const examples = upTo(batch).map(() => task.example(random, test));
  const stacked = (name) => tensor(Int32Array.from(examples.flatMap((e) => e[name])), { shape: [batch, examples[0][name].length] });
  return { inputs: stacked("inputs"), targets: stacked("targets") };
};

/** Share of the answers that are right. */
function accuracy(model, { inputs, targets }) {
  return noGrad(() =>
    scope(() => {
      const said = argmax(model.forward(inputs).logits).dataSync();
      const asked = [...targets.dataSync()].flatMap((target, i) => (target === IGNORED ? [] : [said[i] === target]));
      return asked.filter(Boolean).length / asked.length;
    }),
  );
}

const list = (value) => ({ type: "string", default: value });
const { values } = parseArgs({
  options: { tasks: list(Object.keys(tasks).join(",")), families: list("lstm,slstm,mlstm,mamba,transformer"), steps: list("600") },
});
const [wanted, names, steps] = [values.tasks.split(","), values.families.split(","), Number(values.steps)];
for (const [option, given, known] of [
  ["--tasks", wanted, tasks],
  ["--families", names, families],
])
  for (const name of given) if (!(name in known)) throw new Error(`${option} must be of ${Object.keys(known).join(", ")} but has ${name}`);

const results = [["family", ...wanted]];
for (const name of names) {
  const scores = [];
  for (const kind of wanted) {
    manualSeed(1);
    const task = tasks[kind];
    const random = new Generator(2);
    const model = new LanguageModel(name, task.symbols, 64).train();
    const optimizer = new Adam(model, { lr: 3e-3 });
    for (let step = 1; step <= steps; step++) {
      scope(() => {
        model.zeroGrad();
        const { inputs, targets } = draw(task, random);
        crossEntropy(model.forward(inputs).logits, targets, { ignoreIndex: IGNORED }).backward();
        clipGradNorm(model, 1);
        optimizer.lr = 3e-3 * Math.min(1, step / 50, (steps - step + 1) / (0.3 * steps));
        optimizer.step();
      });
      if (process.stderr.isTTY) process.stderr.write(`\r${name} ${kind} ${step}/${steps} \r`);
    }
    const right = accuracy(model.eval(), draw(task, random, true));
    scores.push(`${(100 * right).toFixed(1)} % ${right > 0.99 ? "solved" : "      "}`);
  }
  results.push([name, ...scores]);
}
console.log(rows(results));
