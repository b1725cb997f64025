import { defineReference } from "../backend/reference.js";

// Two kernels that the tape itself needs, under every op.
defineReference("fill", (_, [out], __, [value]) => {
  out.fill(value);
});

defineReference("accumulate", ([a, b], [out]) => {
  for (let i = 0; i < out.length; i++) out[i] = b ? a[i] + b[i] : a[i];
});
