export { device, type DeviceName } from "./backend/devices.js";
export { tensor, zeros, ones, full, type TensorOptions } from "./tensor/create.js";
export { Tensor, grad } from "./tensor/tensor.js";
export { noGrad, composed } from "./tensor/graph.js";
export { scope, keep } from "./tensor/scope.js";
export * from "./ops/elementwise.js";
export * from "./ops/matmul.js";
export * from "./ops/reduce.js";
