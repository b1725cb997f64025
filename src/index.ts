export type { Backend, BackendInfo, DType, KernelCall, KernelTime, KernelTimes, TypedArray } from "./backend/backend.js";
export { device, setThreads, type DeviceName } from "./backend/devices.js";
export type { Profile } from "./backend/profile.js";
export type { ReferenceKernel } from "./backend/reference.js";
export { tensor, zeros, ones, full, type TensorData, type TensorOptions } from "./tensor/create.js";
export { Tensor, grad, type BackwardOptions } from "./tensor/tensor.js";
export { noGrad, composed } from "./tensor/graph.js";
export { scope, keep } from "./tensor/scope.js";
export { debug } from "./tensor/debug.js";
export * from "./ops/elementwise.js";
export * from "./ops/matmul.js";
export { conv1d, conv2d, type ConvOptions, type PerAxis } from "./ops/conv.js";
export { hopfieldRetrieve, hopfieldEnergy, type RetrieveOptions } from "./ops/hopfield.js";
export { unfold, fold, type Windows } from "./ops/unfold.js";
export * from "./ops/reduce.js";
export { sequenceMask, reverseSequence } from "./ops/sequence.js";
export { scan, maxScan, type ScanOptions, type Scanned } from "./ops/scan.js";
export { layerNorm, rmsNorm, unit } from "./ops/norm.js";
export { deltaRule, type DeltaRuleInputs } from "./ops/deltaRule.js";
export { matrixMemory, type MatrixMemoryInputs, type MatrixMemoryState } from "./ops/mlstm.js";
export { matrixScan, type MatrixScanInputs, type MatrixScanOptions, type MatrixScanned } from "./ops/matrixScan.js";
export { selectiveScan, type SelectiveScanInputs, type SelectiveScanOptions } from "./ops/selectiveScan.js";
export { ssdAttention } from "./ops/ssd.js";
export { causalConv, type CausalConvOptions } from "./ops/causalConv.js";
export { diagonalScan, type DiagonalScanInputs, type DiagonalScanOptions } from "./ops/diagonalScan.js";
export { complexScan } from "./ops/complexScan.js";
export { longConv } from "./ops/longConv.js";
export { sru, type SruInputs } from "./ops/sru.js";
export { wkv4, type Wkv4Inputs } from "./ops/wkv4.js";
export { defineCell, sweep, type Cell, type CellSpec, type Stages, type SweepAttrs, type SweepInputs } from "./ops/sweep.js";
export {
  defineOp,
  defineFused,
  type Applied,
  type Case,
  type CaseInput,
  type Fused,
  type MaybeSpec,
  type MaybeTensor,
  type Op,
  type Plan,
  type Shape,
  type Spec,
} from "./tensor/op.js";
export { apply, applyFused, update } from "./tensor/apply.js";
export { elmanTanh, elmanRelu, elmanCell, type ElmanCell } from "./cells/elman.js";
export { lstm, lstmCell, type LSTMCell, type LSTMVariant } from "./cells/lstm.js";
export { gru, gruBefore, gruWrite, gruBeforeWrite, gruCell, type GRUCell, type GRUVariant } from "./cells/gru.js";
export { mgu } from "./cells/mgu.js";
export { slstm } from "./cells/slstm.js";
export { indrnnRelu, indrnnTanh } from "./cells/indrnn.js";
export type { Activation, CellActivations } from "./cells/activation.js";
export { convLSTMStep, type ConvLSTMStates } from "./cells/convlstm.js";
export { Module, type Placement, type StateValue } from "./nn/module.js";
export { Linear, type LinearOptions } from "./nn/linear.js";
export { quantize, dequantize } from "./nn/quantized.js";
export type { Precision } from "./ops/precision.js";
export { Embedding, type EmbeddingOptions } from "./nn/embedding.js";
export type { Lookup } from "./nn/lookup.js";
export { Conv1d, Conv2d, type ConvLayerOptions } from "./nn/conv.js";
export { LayerNorm, RMSNorm, type LayerNormOptions } from "./nn/norm.js";
export { BatchNorm1d, type BatchNormOptions } from "./nn/batchNorm.js";
export { AdaptiveSoftmax, type AdaptiveSoftmaxOptions } from "./nn/adaptiveSoftmax.js";
export { Dropout, LockedDropout } from "./nn/dropout.js";
export { Recurrent, type RecurrentOptions, type ForwardOptions } from "./nn/recurrent.js";
export type { LockedDropoutRates, RegularisationOptions } from "./nn/regularisation.js";
export type { Masks } from "./nn/masks.js";
export * from "./nn/layers.js";
export type { ScanLayer, ScanInput, ScanState } from "./nn/scanLayer.js";
export { Bidirectional, Reversed, type BidirectionalOptions } from "./nn/bidirectional.js";
export { Stacked, type StackedOptions, type StackedState } from "./nn/stacked.js";
export { Dilated, type DilatedOptions } from "./nn/dilated.js";
export type { RecurrentLayer, SequenceOptions, StateOf } from "./nn/recurrentLayer.js";
export * as init from "./nn/init.js";
export { ConvLSTM1d, ConvLSTM2d, type ConvLSTMForwardOptions, type ConvLSTMOptions, type ConvLSTMState } from "./nn/convlstm.js";
export { Hopfield, type HopfieldOptions, type HopfieldForwardOptions } from "./nn/hopfield.js";
export { Stream, type Snapshot, type StateTree } from "./nn/stream.js";
export { Session, Streams, streamsModel, type StreamsOptions } from "./nn/streams.js";
export * from "./ops/movement.js";
export * from "./ops/embedding.js";
export * from "./ops/norm.js";
export * from "./ops/random.js";
export {
  uniform,
  normal,
  bernoulli,
  Generator,
  defaultGenerator,
  manualSeed,
  type GeneratorState,
  type RandomOptions,
} from "./tensor/random.js";
export * from "./ops/select.js";
export { to } from "./ops/cast.js";
export * from "./ops/softmax.js";
export { clipNorm, clipValue } from "./ops/update.js";
export { streamModel, type Streamable, type Stepped, type StreamForward, type StreamInput } from "./nn/stream.js";
export { Vocabulary, type VocabularyOptions } from "./data/vocabulary.js";
export {
  characterBatches,
  CharacterBatches,
  type CharacterBatch,
  type CharacterBatchOptions,
  type TextPosition,
} from "./data/characters.js";
export { windows, padBatch, type WindowOptions, type PaddedBatch, type PadOptions } from "./data/windows.js";
export type { Batch, Values } from "./data/batch.js";
export {
  HopfieldNetwork,
  type HopfieldNetworkOptions,
  type UpdateOptions,
  type RecallOptions,
  type Recall,
} from "./models/hopfieldNetwork.js";
export {
  LanguageModel,
  type LanguageModelConfig,
  type LanguageModelOptions,
  type CellName,
  type SampleOptions,
} from "./models/languageModel.js";
export type { SamplingOptions } from "./models/sampling.js";
export { CausalLM, type CausalLMForwardOptions, type CausalLMOptions } from "./models/causalLM.js";
export type { GenerateOptions } from "./models/generate.js";
export type { Tokenizer } from "./models/tokenizer.js";
export { MambaForCausalLM, type MambaConfig } from "./models/mamba.js";
export { Mamba2ForCausalLM, type Mamba2Config } from "./models/mamba2.js";
export { RwkvForCausalLM, type RwkvConfig } from "./models/rwkv4.js";
export { xLSTMForCausalLM, type xLSTMConfig } from "./models/xlstm.js";
export { RWKV7ForCausalLM, type RWKV7Config } from "./models/rwkv7.js";
export { Optimizer, type Entry, type OptimizerState } from "./train/optimizer.js";
export * from "./train/optimizers.js";
export * as schedules from "./train/schedules.js";
export type { Schedule } from "./train/schedules.js";
export { ReduceOnPlateau, type PlateauOptions, type PlateauState } from "./train/plateau.js";
export { ASGD, type ASGDOptions } from "./train/asgd.js";
export { NonMonotonicTrigger, type TriggerState } from "./train/trigger.js";
export { activationRegularization, temporalActivationRegularization, type ActivationOptions } from "./train/regularization.js";
export { gradientFlow, type GradientFlow } from "./train/gradientFlow.js";
export { drawGradientFlow, type FlowDrawingOptions } from "./train/drawGradientFlow.js";
export { drawProfile, type ProfileDrawingOptions } from "./train/drawProfile.js";
export { gateSaturation, type Saturation, type SaturationOptions } from "./train/gateSaturation.js";
export type { Probe, ProbeOptions } from "./train/probe.js";
export { spectralRadius } from "./train/spectrum.js";
export { gradientNormPenalty, pascanuPenalty } from "./train/penalties.js";
export { clipGradNorm, clipGradValue } from "./train/clip.js";
export { CarriedState } from "./train/carried.js";
export {
  train,
  evaluate,
  type TrainOptions,
  type TrainStep,
  type EvaluateOptions,
  type LossOptions,
  type ForwardArguments,
  type Trainable,
} from "./train/train.js";
export type { TensorBatch } from "./train/source.js";
export {
  saveCheckpoint,
  readCheckpoint,
  saveWeights,
  loadWeights,
  Checkpoint,
  type CheckpointParts,
  type CheckpointNotes,
  type Generators,
} from "./io/checkpoint.js";
export {
  readSafetensors,
  parseSafetensors,
  writeSafetensors,
  serializeSafetensors,
  toNumbers,
  SafetensorsError,
  type SafetensorsFile,
  type SafeTensor,
  type SafeDType,
  type SafeArray,
  type TensorToWrite,
} from "./io/safetensors.js";
export { loadLanguageModel, describeLanguageModel, type LoadedLanguageModel } from "./io/languageModel.js";
export { fromPretrained, savePretrained, type FromPretrainedOptions, type SavePretrainedOptions } from "./io/pretrained.js";
export type { Json } from "./io/metadata.js";
export { fromKeras, type KerasWeights } from "./io/keras.js";
export { readKeras, type KerasLayer, type ReadKerasOptions } from "./io/kerasFile.js";
export { kerasLayer, loadKeras, type KerasDescription } from "./io/kerasLayer.js";
export type { KerasConfig, KerasModelConfig } from "./io/kerasConfig.js";
export { onnxLSTM, onnxGRU, onnxRNN, type OnnxWeights, type OnnxAttributes } from "./io/onnxOperators.js";
export type { NumericArray } from "./io/layouts.js";
