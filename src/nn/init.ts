export {
  constant,
  glorotNormal,
  glorotUniform,
  identity,
  kaimingNormal,
  kaimingUniform,
  normal,
  orthogonal,
  uniform,
  xavierNormal,
  xavierUniform,
  zeros,
  type DrawOptions,
  type GateOptions,
  type GlorotOptions,
  type KaimingOptions,
} from "./fill.js";
export { chrono, keras, type KerasOptions } from "./recurrentInit.js";
