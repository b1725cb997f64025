import { checkChoice, checkNumber, checkOptions } from "../tensor/check.js";

/** Probabilities of dropout whose mask is the same at every step of a sequence. */
export interface LockedDropoutRates {
  /** Of the input of the first layer. */
  readonly input?: number;
  /** Of what passes from one layer to the next. */
  readonly between?: number;
  /** Of the output of the last layer; the states are left alone. */
  readonly output?: number;
  /** Of h where the recurrent product reads it. */
  readonly hidden?: number;
}

/** What is random in a recurrent layer while it trains. All of it is off by default. */
export interface RegularisationOptions {
  /** Probability of zeroing an output between layers, each step on its own, as in PyTorch. Default 0. */
  readonly dropout?: number;
  /**
   * Variational dropout (Gal & Ghahramani 2016): one mask a sequence, whose elements are 0 or 1 / (1 - p). `hidden` is
   * what Keras calls recurrent_dropout.
   */
  readonly lockedDropout?: LockedDropoutRates;
  /**
   * Dropout of the candidate value, so that nothing that is remembered is forgotten by it (Semeniuta, Severyn & Barth
   * 2016): a probability, with a mask of its own each step, or `{ p, per: "sequence" }` for one mask a sequence.
   */
  readonly recurrentDropout?: number | { readonly p: number; readonly per?: "step" | "sequence" };
  /**
   * Probability that a unit keeps its old state for a step (Krueger et al. 2016), of all states or by state. Inference
   * takes the expectation, p * old + (1 - p) * new.
   */
  readonly zoneout?: number | Readonly<Record<string, number>>;
  /** DropConnect of the recurrent weights (Merity, Keskar & Socher 2017, AWD-LSTM): one mask a forward pass. */
  readonly weightDrop?: number;
}

export const regularisationOptions = ["dropout", "lockedDropout", "recurrentDropout", "zoneout", "weightDrop"] as const;

/** The same with nothing left open. */
export interface Regularisation<S extends string> {
  readonly dropout: number;
  readonly locked: Required<LockedDropoutRates>;
  readonly candidate: { readonly p: number; readonly per: "step" | "sequence" };
  readonly zoneout: Readonly<Record<S, number>>;
  readonly weightDrop: number;
}

/** @throws on what is not a probability, an unknown state, a candidate that the cell has not, or two dropouts between layers. */
export function regularisationOf<S extends string>(
  where: string,
  { dropout = 0, lockedDropout = {}, recurrentDropout = 0, zoneout = 0, weightDrop = 0 }: RegularisationOptions,
  states: readonly S[],
  hasCandidate: boolean,
): Regularisation<S> {
  const probability = (name: string, p: unknown) => checkNumber(where, name, p, 0, 1);
  probability("dropout", dropout);
  probability("weightDrop", weightDrop);
  checkOptions(`${where}: lockedDropout`, lockedDropout, ["input", "between", "output", "hidden"]);
  const locked = { input: 0, between: 0, output: 0, hidden: 0, ...lockedDropout };
  for (const [name, p] of Object.entries(locked)) probability(`lockedDropout.${name}`, p);
  if (dropout > 0 && locked.between > 0)
    throw new RangeError(`${where}: dropout and lockedDropout.between both act between the layers; give one of them`);
  const given = typeof recurrentDropout === "number" ? { p: recurrentDropout } : recurrentDropout;
  checkOptions(`${where}: recurrentDropout`, given, ["p", "per"]);
  const candidate = { per: "step" as const, ...given };
  probability("recurrentDropout", candidate.p);
  checkChoice(where, "recurrentDropout.per", candidate.per, ["step", "sequence"]);
  if (candidate.p > 0 && !hasCandidate)
    throw new RangeError(`${where}: recurrentDropout drops a candidate value, which this cell has not; lockedDropout.hidden drops h`);
  if (typeof zoneout === "object") checkOptions(`${where}: zoneout`, zoneout, states);
  else probability("zoneout", zoneout);
  const kept = Object.fromEntries(states.map((s) => [s, typeof zoneout === "number" ? zoneout : (zoneout[s] ?? 0)])) as Record<S, number>;
  for (const s of states) probability(`zoneout.${s}`, kept[s]);
  return { dropout, locked, candidate, zoneout: kept, weightDrop };
}
