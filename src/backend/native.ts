import type { Backend, BackendInfo } from "./backend.js";

export function loadNative(): Backend {
  throw new Error(nativeInfo().reason);
}

export function nativeInfo(): BackendInfo {
  return { name: "cpu", available: false, reason: "the native addon is not built" };
}
