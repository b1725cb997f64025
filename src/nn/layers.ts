export { RNN, type RNNOptions, type RNNState } from "./rnn.js";
export { LSTM, type LSTMOptions, type LSTMState } from "./lstm.js";
export { GRU, MGU, type GRUOptions, type GRUState } from "./gru.js";
export { IndRNN, type IndRNNOptions } from "./indrnn.js";
export { Jordan, type JordanOptions, type JordanState } from "./jordan.js";
export { CellLayer, type CellLayerOptions } from "./cellLayer.js";
export { MinGRU, MinLSTM, type MinRecurrentOptions, type MinRecurrentState } from "./minGru.js";
export { SLSTM, type SLSTMOptions, type SLSTMState } from "./slstm.js";
export type { HeadedOptions } from "./headed.js";
export { LinearAttention, type LinearAttentionState } from "./linearAttention.js";
export { RetNet, type RetentionState } from "./retnet.js";
export { GLA, type GLAOptions, type GLAState } from "./gla.js";
export { DeltaNet, GatedDeltaNet, type DeltaNetOptions, type DeltaNetState } from "./deltaNet.js";
export { Mamba, type MambaOptions, type MambaState } from "./mamba.js";
export { MLSTM, type MLSTMOptions, type MLSTMState } from "./mlstm.js";
export { SLSTMBlock, type SLSTMBlockOptions, type SLSTMBlockState } from "./slstmBlock.js";
export { XLSTM, type XLSTMOptions, type XLSTMState } from "./xlstm.js";
export { Mamba2, type Mamba2Options, type Mamba2State } from "./mamba2.js";
export {
  RWKV7ChannelMix,
  RWKV7TimeMix,
  type RWKV7ChannelMixOptions,
  type RWKV7ForwardOptions,
  type RWKV7TimeMixOptions,
  type RWKV7TimeMixState,
} from "./rwkv7.js";
export { QRNN, type QRNNOptions, type QRNNState } from "./qrnn.js";
export { SRU, type SRUOptions, type SRUState } from "./sru.js";
export { HGRN, type HGRNOptions, type HGRNState } from "./hgrn.js";
export { RWKV4ChannelMix, RWKV4TimeMix, type RWKV4ChannelState, type RWKV4Options, type RWKV4TimeState } from "./rwkv4.js";
export { RWKV5TimeMix, type RWKV5Options, type RWKV5State } from "./rwkv5.js";
export { RWKV6ChannelMix, RWKV6TimeMix, type RWKV6ChannelMixOptions, type RWKV6Options } from "./rwkv6.js";
export { S4, type S4Options } from "./s4.js";
export { S4D } from "./s4d.js";
export { S5, type S5Options, type S5State } from "./s5.js";
export type { StateSpaceModeOptions, StateSpaceOptions, StateSpaceState } from "./stateSpace.js";
export type { Discretization } from "./discretize.js";
export { hippo, normalForm, type ComplexArray, type Hippo, type Measure, type NormalForm } from "./hippo.js";
