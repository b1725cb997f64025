import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { MemoryUse } from "./memoryUse.js";
import type { Measurement } from "./measure.js";

export const OURS = "throughtime";
const here = fileURLToPath(new URL(".", import.meta.url));

/** What is asked of a peer: to time a case for some seconds, or to say what memory some steps of it take. */
export type Request = { readonly case: string } & ({ readonly budget: number } | { readonly steps: number; readonly checkpoint?: boolean });

export type Answer = Partial<Measurement & MemoryUse> & {
  readonly error?: string;
  /** What the machine can do at all, measured beside the case. */
  readonly peak_gflops?: number;
  readonly ready?: boolean;
  readonly versions?: Record<string, unknown>;
};

/** A peer in a process of its own. */
export class Peer {
  private constructor(
    readonly name: string,
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    readonly versions: Record<string, unknown>,
  ) {}

  static async start(name: string, [program, ...args]: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Peer> {
    const child = spawn(program, args, {
      cwd: here,
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...env },
    });
    const failed = new Promise<never>((_, reject) =>
      child.on("error", (cause) => reject(new Error(`${name}: cannot be started: ${cause.message}`))),
    );
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await Promise.race([lines.next(), failed]);
    if (first.done) throw new Error(`${name}: ended before it was ready`);
    return new Peer(name, child, lines, (JSON.parse(first.value) as Answer).versions ?? {});
  }

  /** A peer of this project. @throws on any other name. */
  static named(name: string, { threads, python }: { readonly threads: number; readonly python: string }): Promise<Peer> {
    const flags = ["--threads", String(threads)];
    const script = (file: string) => [python, `peers/${file}`, ...flags];
    const keepMemory = { MALLOC_MMAP_THRESHOLD_: "1073741824", MALLOC_TRIM_THRESHOLD_: "4294967296" };
    const known: Record<string, () => Promise<Peer>> = {
      [OURS]: () => Peer.start(name, [process.execPath, "--import", "tsx", `${here}run.ts`, "--serve", ...flags]),
      torch: () => Peer.start(name, script("torch_peer.py")),
      "torch-malloc": () => Peer.start(name, script("torch_peer.py"), keepMemory),
      onnxruntime: () => Peer.start(name, script("onnxruntime_peer.py")),
    };
    if (!(name in known)) throw new Error(`--peers must be of ${Object.keys(known).join(", ")} but has ${name}`);
    return known[name]();
  }

  async ask(request: Request): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    const answer = await this.lines.next();
    return answer.done ? { error: "the process ended" } : (JSON.parse(answer.value) as Answer);
  }

  stop(): void {
    this.child.stdin!.end();
  }
}
