// Prints "N passed, N failed, N skipped" from vitest's JSON report; exits 1 if nothing ran or anything failed.
import { readFileSync } from "node:fs";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { numPassedTests: passed, numFailedTests: failed, numPendingTests: pending, numTodoTests: todo, success } = report;
console.log(`${passed} passed, ${failed} failed, ${pending + todo} skipped`);
process.exitCode = success && passed > 0 ? 0 : 1;
