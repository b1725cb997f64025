import { device, type DeviceName } from "../src/index.js";

/** Whether the native kernels are there; without them everything that compares with them is skipped, aloud. */
export const nativeAvailable = device.info().devices.some(({ name, available }) => name === "cpu" && available);

/** The devices of this machine: `reference`, and `cpu` where the addon loads. */
export function devicesUnderTest(): DeviceName[] {
  return nativeAvailable ? ["reference", "cpu"] : ["reference"];
}
