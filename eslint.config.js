import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

// Imports go one way: a folder of src/ may use the folders before it in this list, never those after it.
const layers = ["backend", "tensor", "ops", "cells", "nn", "data", "models", "train", "io", "cli"];

const oneWay = layers.map((layer, i) => {
  const closed = [...layers.slice(i + 1), ...(layer === "data" ? ["cells", "nn"] : [])];
  const patterns = [{ regex: "^(\\.\\./)+index\\.js$", message: "index.ts re-exports the library; inside it, import the file itself." }];
  if (closed.length > 0)
    patterns.push({
      regex: `^(\\.\\./)+(${closed.join("|")})/`,
      message: `src/${layer} must not use it: imports go ${layers.join(" <- ")}.`,
    });
  return { files: [`src/${layer}/**/*.ts`], rules: { "no-restricted-imports": ["error", { patterns }] } };
});

export default defineConfig(
  globalIgnores(["dist/", "build/", "build-*/", "docs/api/", "prebuilds/", "runs/"]),
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Ops, cells and devices are plain values: their functions are taken out of them freely.
      "@typescript-eslint/unbound-method": "off",
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: { "@typescript-eslint/no-unsafe-assignment": "off", "@typescript-eslint/no-unsafe-argument": "off" },
  },
  { files: ["**/*.{js,mjs}"], extends: [tseslint.configs.recommended] },
  ...oneWay,
);
