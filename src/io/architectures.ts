import type { Architecture, CausalLM } from "../models/causalLM.js";
import { MambaForCausalLM } from "../models/mamba.js";
import { Mamba2ForCausalLM } from "../models/mamba2.js";
import { RwkvForCausalLM } from "../models/rwkv4.js";
import { RWKV7ForCausalLM } from "../models/rwkv7.js";
import { xLSTMForCausalLM } from "../models/xlstm.js";

/** The kinds of models that folders are read of. */
export const architectures = [
  MambaForCausalLM,
  Mamba2ForCausalLM,
  RwkvForCausalLM,
  RWKV7ForCausalLM,
  xLSTMForCausalLM,
] as unknown as readonly Architecture[];

/** The kind of a model. @throws TypeError if folders are not written of it. */
export function architectureOf(where: string, model: CausalLM): Architecture {
  const made = (model as CausalLM | null)?.constructor;
  const found = architectures.find((one) => made === one);
  if (found) return found;
  const name = made?.name ?? "null";
  throw new TypeError(`${where}: model must be one of ${architectures.map((a) => a.architecture).join(", ")} but is a ${name}`);
}
