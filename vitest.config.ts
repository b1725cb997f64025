import { availableParallelism } from "node:os";
import { configDefaults, defineConfig } from "vitest/config";

// What measures time or processor use has the machine to itself: it runs after the others, a file at a time.
const alone = ["bench", "eventloop", "profile", "threads"].map((name) => `test/${name}.test.ts`);
const together = ["test/**/*.test.ts"];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: together,
          exclude: [...configDefaults.exclude, ...alone],
          maxWorkers: availableParallelism(),
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "alone", include: alone, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
});
