import { add, mul, sigmoid, sub } from "../ops/elementwise.js";
import { concat } from "../ops/movement.js";
import { zeroPadding } from "../ops/sequence.js";
import { checkChoice, checkNumber, checkOptions } from "../tensor/check.js";
import type { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { BatchNorm1d } from "./batchNorm.js";
import { Dropout } from "./dropout.js";
import { constant } from "./fill.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { LayerNorm } from "./norm.js";
import { checkLengths } from "./lengths.js";
import { checkLayer, checkSequence, checkStreams, type RecurrentLayer, type SequenceOptions, type StateOf } from "./recurrentLayer.js";
import { streamModel, type Stream } from "./stream.js";
import { streamsModel, type Streams, type StreamsOptions } from "./streams.js";

export interface StackedOptions {
  /**
   * What each layer H_k makes of its input, y_{k-1}, or x of the first. `plain`: y_k = H_k(y_{k-1}). `residual` (He et al.
   * 2016): y_k = H_k(y_{k-1}) + y_{k-1}. `highway` (Srivastava, Greff & Schmidhuber 2015): y_k = T * H_k(y_{k-1}) +
   * (1 - T) * y_{k-1} with T = sigmoid(W_k y_{k-1} + b_k). `dense` (Huang et al. 2017; Godin et al. 2017 for recurrent
   * layers): each layer is given x and all outputs before it side by side, and so is what the stack gives. Default `plain`.
   */
  readonly connections?: "plain" | "residual" | "highway" | "dense";
  /** Normalise what passes from layer to layer, before the dropout: each step alone, or each feature over the batch. Default `none`. */
  readonly norm?: "none" | "layer" | "batch";
  /** Drop each element of what passes from layer to layer with this probability, in training. Default 0. */
  readonly dropout?: number;
  /** What the biases b_k of highway connections start with; negative ones let the input through at first. Default -2. */
  readonly highwayBias?: number;
  /** Source of the weights W_k and of the masks. Default: the process's generator. */
  readonly generator?: Generator;
}

/** The states of the layers, in their order. */
export type StackedState<L extends readonly RecurrentLayer[]> = { readonly [K in keyof L]: StateOf<L[K]> };

/**
 * Layers of any kind on top of each other, each given what the one below gives:
 *
 *     y_0 = connect(H_0(x), x)   y_k = connect(H_k(dropout(norm(y_{k-1}))), y_{k-1})
 *
 * Neither the norm nor the dropout is on the way past a layer, nor before the first or after the last. The state is a list,
 * one for each layer. It streams if all of its layers do.
 *
 * Parameters: `layers.{k}.*`; of the norms from the second layer on `norms.{k-1}.*`, as LayerNorm or BatchNorm1d has them;
 * of highway connections `gates.{k}.weight` [C, C] and `gates.{k}.bias` [C]. All are where the first layer is.
 */
export class Stacked<const L extends readonly RecurrentLayer[] = readonly RecurrentLayer[]> extends Module {
  readonly connections: NonNullable<StackedOptions["connections"]>;
  readonly norms: readonly (LayerNorm | BatchNorm1d)[];
  readonly gates: readonly Linear[];
  private readonly dropout: Dropout;

  /** @throws on layers of which one does not take what is below it, or on connections that their sizes do not allow. */
  constructor(
    readonly layers: L,
    options: StackedOptions = {},
  ) {
    super();
    checkOptions("Stacked", options, ["connections", "norm", "dropout", "highwayBias", "generator"]);
    const { connections = "plain", norm = "none", dropout = 0, highwayBias = -2, generator } = options;
    if (!Array.isArray(layers) || layers.length === 0) throw new TypeError("Stacked: layers must be a list of at least one layer");
    layers.forEach((layer, k) => checkLayer("Stacked", `layers[${k}]`, layer));
    checkChoice("Stacked", "connections", connections, ["plain", "residual", "highway", "dense"]);
    checkChoice("Stacked", "norm", norm, ["none", "layer", "batch"]);
    checkNumber("Stacked", "highwayBias", highwayBias);
    this.connections = connections;
    this.checkSizes();
    const [first] = layers.flatMap((layer: RecurrentLayer) => layer.parameters());
    const place = first && { device: first.device, dtype: first.dtype as "float32" | "float64" };
    const Norm = norm === "layer" ? LayerNorm : BatchNorm1d;
    this.norms = norm === "none" ? [] : layers.slice(1).map(({ inputSize }) => new Norm(inputSize, place));
    this.gates = connections === "highway" ? layers.map(({ inputSize }) => new Linear(inputSize, inputSize, { generator, ...place })) : [];
    for (const gate of this.gates) constant(gate.bias!, highwayBias);
    this.dropout = new Dropout(dropout, { generator });
  }

  get inputSize(): number {
    return this.layers[0].inputSize;
  }

  get outputSize(): number {
    if (this.connections !== "dense") return this.layers.at(-1)!.outputSize;
    return this.layers.reduce((size, layer) => size + layer.outputSize, this.inputSize);
  }

  /** x [N, T, inputSize] -> `output` [N, T, outputSize], `state`. @throws on a wrong shape or length, and as the layers do. */
  forward(x: Tensor, options: SequenceOptions<StackedState<L>> = {}): { output: Tensor; state: StackedState<L> } {
    const where = "Stacked.forward";
    checkOptions(where, options, ["state", "lengths"]);
    checkSequence(where, x, this.inputSize);
    const { lengths } = options;
    const state = options.state as readonly StateOf<RecurrentLayer>[] | undefined;
    if (state && state.length !== this.layers.length)
      throw new RangeError(`${where}: state must be a list of ${this.layers.length} but has ${state.length}`);
    return scope(() => {
      let below = zeroPadding(x, lengths ? checkLengths(where, x, lengths) : null);
      const states = this.layers.map((layer, k) => {
        const input = k === 0 ? below : this.dropout.forward(this.normalised(below, k - 1, lengths));
        const result = layer.forward(input, { state: state?.[k], lengths });
        below = this.connected(result.output, below, k);
        return result.state;
      });
      return { output: below, state: states as unknown as StackedState<L> };
    });
  }

  /** A stream over one sequence. @throws if one of the layers is bidirectional or reverse. */
  override stream(): Stream {
    checkStreams(this);
    return streamModel(this, { shape: [1, 1, this.inputSize] });
  }

  /** Many sequences, stepped together: see `Streams`. @throws if one of the layers is bidirectional or reverse. */
  override streams(options: StreamsOptions = {}): Streams {
    checkStreams(this, "streams");
    return streamsModel(this, { ...options, shape: [1, 1, this.inputSize] });
  }

  private normalised(y: Tensor, k: number, lengths: SequenceOptions<never>["lengths"]): Tensor {
    const norm = this.norms.at(k);
    return norm instanceof BatchNorm1d ? norm.forward(y, { lengths }) : (norm?.forward(y) ?? y);
  }

  private connected(output: Tensor, input: Tensor, k: number): Tensor {
    if (this.connections === "plain") return output;
    if (this.connections === "residual") return add(output, input);
    if (this.connections === "dense") return concat([input, output], 2);
    return add(input, mul(sigmoid(this.gates[k].forward(input)), sub(output, input)));
  }

  private checkSizes(): void {
    let below = this.inputSize;
    this.layers.forEach(({ inputSize, outputSize }, k) => {
      if (inputSize !== below) throw new RangeError(`Stacked: layers[${k}] must have inputSize ${below} but has ${inputSize}`);
      if (this.connections === "dense") below += outputSize;
      else if (this.connections !== "plain" && outputSize !== below)
        throw new RangeError(
          `Stacked: ${this.connections} connections add the input of a layer to its output, but layers[${k}] takes ${inputSize} and gives ${outputSize}; make them equal, with a Linear in front if need be`,
        );
      else below = outputSize;
    });
  }
}
