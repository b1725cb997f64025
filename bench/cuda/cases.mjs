// The cases of bench:cuda, the most telling first.

const hidden = [64, 128, 160, 192, 256, 512, 768, 1024, 2048];
const batch = [1, 16, 64, 128];
const precision = ["fp32", "tf32", "bf16", "fp16"];
const cell = ["lstm", "gru", "rnn"];
// One layer in one direction over sequences of one length, or another of these.
const plain = {};
const forms = [{ layers: 4 }, { bidirectional: true }, { ragged: true }, { layers: 4, bidirectional: true }];

/** Each of the groups whole before the next one. Within a group the first key changes slowest. */
const groups = [
  { cell: ["lstm"], batch: [16, 1], hidden: [128, 256, 512, 1024], precision, form: [plain] },
  { cell: ["lstm"], batch: [64], hidden: [64, 160, 192, 512, 768, 1024, 2048], precision, form: [plain] },
  { cell: ["gru", "rnn"], batch: [16], hidden: [128, 512, 1024], precision: ["tf32", "bf16"], form: [plain] },
  { cell: ["lstm", "gru"], batch: [16], hidden: [128, 512], precision: ["tf32", "bf16"], form: forms },
  { cell: ["lstm"], batch, hidden, precision, form: [plain] },
  { cell: ["gru", "rnn"], batch, hidden, precision, form: [plain] },
  { cell, batch, hidden, precision, form: forms },
];

function* crossed({ cell, batch, hidden, precision, form }) {
  for (const c of cell)
    for (const b of batch)
      for (const h of hidden)
        for (const p of precision)
          for (const f of form)
            yield { cell: c, hidden: h, batch: b, precision: p, layers: 1, bidirectional: false, ragged: false, steps: 256, ...f };
}

const every = groups.flatMap((group) => [...crossed(group)]);
export const cases = [...new Map(every.map((c) => [JSON.stringify(c), c])).values()];

/** One of each kind, of a size that an emulated GPU can compute. */
export const smallCases = cell.flatMap((c, i) =>
  [plain, ...forms].flatMap((form, k) => {
    const p = precision[(i + k) % precision.length];
    return [{ cell: c, hidden: 16, batch: 2, precision: p, layers: 1, bidirectional: false, ragged: false, steps: 4, ...form }];
  }),
);
