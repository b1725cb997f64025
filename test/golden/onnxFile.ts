import { readFileSync } from "node:fs";
import type { Values } from "./case.js";

/** A node of an ONNX graph with its attributes; texts, numbers and lists of them. */
export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Fields of a protobuf message by number: numbers of 32 and 64 bits as they are, everything else as bytes. */
function fields(bytes: Buffer): Map<number, (number | Buffer)[]> {
  const found = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const wire = key & 7;
    const width = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : 0;
    const value = wire === 0 ? varint() : wire === 5 ? bytes.readFloatLE(at) : bytes.subarray(at, at + width);
    at += width;
    if (!found.has(key >> 3)) found.set(key >> 3, []);
    found.get(key >> 3)!.push(value);
  }
  return found;
}

const texts = (list: (number | Buffer)[] = []) => list.map(String);

function attribute(message: Map<number, (number | Buffer)[]>): unknown {
  const [f, i, s, floats, ints, strings] = [2, 3, 4, 7, 8, 9].map((field) => message.get(field));
  return f?.[0] ?? i?.[0] ?? (s ? String(s[0]) : (floats ?? ints ?? (strings && texts(strings))));
}

function initializer(message: Map<number, (number | Buffer)[]>): Values {
  const raw = message.get(9)![0] as Buffer;
  return { shape: message.get(1) as number[], data: Float32Array.from({ length: raw.length / 4 }, (_, i) => raw.readFloatLE(4 * i)) };
}

/** The nodes of an ONNX file in order, and its float32 initializers: enough for the recurrent operators PyTorch exports. */
export function readOnnx(path: string): { nodes: OnnxNode[]; initializers: Record<string, Values> } {
  const graph = fields(fields(readFileSync(path)).get(7)![0] as Buffer);
  const messages = (field: number) => (graph.get(field) ?? []).map((message) => fields(message as Buffer));
  return {
    nodes: messages(1).map((node) => ({
      op: texts(node.get(4))[0],
      inputs: texts(node.get(1)),
      attributes: Object.fromEntries(
        (node.get(5) ?? []).map((message) => {
          const of = fields(message as Buffer);
          return [String(of.get(1)![0]), attribute(of)];
        }),
      ),
    })),
    initializers: Object.fromEntries(messages(5).map((message) => [String(message.get(8)![0]), initializer(message)])),
  };
}
