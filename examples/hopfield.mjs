// An associative memory of letters: stores four, corrupts one, and recalls it.
//   node examples/hopfield.mjs
import { Generator, HopfieldNetwork } from "throughtime";

const letters = {
  T: `##########
      ##########
      ##########
      ....##....
      ....##....
      ....##....
      ....##....
      ....##....
      ....##....
      ....##....`,
  H: `##......##
      ##......##
      ##......##
      ##......##
      ##########
      ##########
      ##......##
      ##......##
      ##......##
      ##......##`,
  L: `##........
      ##........
      ##........
      ##........
      ##........
      ##........
      ##........
      ##........
      ##########
      ##########`,
  O: `..######..
      .########.
      ###....###
      ##......##
      ##......##
      ##......##
      ##......##
      ###....###
      .########.
      ..######..`,
};

const patterns = Object.values(letters).map((picture) => [...picture.replace(/\s/g, "")].map((dot) => (dot === "#" ? 1 : -1)));
const draw = (pattern) =>
  Array.from({ length: 10 }, (_, row) => [...pattern.slice(10 * row, 10 * row + 10)].map((s) => (s > 0 ? "#" : ".")).join(" "));

const network = new HopfieldNetwork(100, { rule: "projection" }).store(patterns);
const generator = new Generator(7);
const corrupted = patterns[1].map((s) => (generator.next() < 0.25 ? -s : s));
const { pattern, converged, sweeps, energies } = network.recall(corrupted, { generator });

const [before, after] = [draw(corrupted), draw(pattern)];
console.log(`${"an H, corrupted".padEnd(26)}recalled`);
before.forEach((row, i) => console.log(`${row}       ${after[i]}`));
console.log(
  `energy ${energies.map((e) => e.toFixed(2)).join(" -> ")}: ${converged ? "a fixed point" : "no fixed point"} after ${sweeps} sweeps`,
);
const wrong = pattern.reduce((count, s, i) => count + (s !== patterns[1][i] ? 1 : 0), 0);
console.log(`dots that differ from the letter that was stored: ${wrong}`);
