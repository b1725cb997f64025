"""Makes the golden cases of ONNX's recurrent operators in cases/onnx_runtime: what ONNX Runtime computes, in float32.

Run by hand: python generate_onnx.py, with onnx==1.23.1, onnxruntime==1.30.0, numpy==2.4.6 and safetensors.
"""
import json
import pathlib

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "cases" / "onnx_runtime"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
random = np.random.default_rng(7)


def case(name, op, T=5, N=3, I=2, H=3, bias=True, peephole=False, lengths=None, **attributes):
    D = 2 if attributes.get("direction") == "bidirectional" else 1
    G = GATES[op]
    draw = lambda *shape: random.uniform(-1, 1, shape).astype(np.float32)
    inputs = {"input.X": 2 * draw(T, N, I), "param.W": draw(D, G * H, I), "param.R": draw(D, G * H, H)}
    if bias:
        inputs["param.B"] = draw(D, 2 * G * H)
    if lengths:
        inputs["input.sequence_lens"] = np.array(lengths, np.int32)
    for state in ["h", "c"][: 2 if op == "LSTM" else 1]:
        inputs[f"state0.initial_{state}"] = draw(D, N, H)
    if peephole:
        inputs["param.P"] = draw(D, 3 * H)
    own = {key.split(".")[1]: value for key, value in inputs.items()}
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + (["initial_c", "P"] if op == "LSTM" else [])
    outputs = ["Y", "Y_h"] + (["Y_c"] if op == "LSTM" else [])
    attributes = {"hidden_size": H, **attributes}
    node = helper.make_node(op, [key if key in own else "" for key in order], outputs, **attributes)
    info = lambda key: helper.make_tensor_value_info(key, TensorProto.INT32 if own[key].dtype == np.int32 else TensorProto.FLOAT, own[key].shape)
    graph = helper.make_graph([node], name, [info(key) for key in own], [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tensors = inputs | {f"output.{key}": value for key, value in zip(outputs, session.run(outputs, own))}
    about = {
        "name": name,
        "family": "onnx_runtime",
        "reference": {"package": "onnxruntime", "version": onnxruntime.__version__, "object": f"CPU kernel {op}"},
        "config": {"op": op, "T": T, "B": N, "input_size": I, **attributes},
        "computed_in": "float32",
        "loss_over": [],
        "tolerance": {"float64": None},
        "tensors": {key: {"shape": list(t.shape), "dtype": str(t.dtype)} for key, t in tensors.items()},
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in about.items())
    (FOLDER / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    path = FOLDER / f"{name}.safetensors"
    save_file({key: np.ascontiguousarray(t) for key, t in tensors.items()}, path)
    path.chmod(0o644)


case("lstm_bidirectional_lengths", "LSTM", direction="bidirectional", lengths=[5, 1, 3])
case("lstm_peephole_reverse", "LSTM", peephole=True, direction="reverse", lengths=[2, 5, 4])
case("lstm_coupled_clip", "LSTM", input_forget=1, clip=0.5)
case("lstm_peephole_clip", "LSTM", peephole=True, clip=0.5)
case("lstm_numbers_in_turn", "LSTM", activations=["Sigmoid", "LeakyRelu", "HardSigmoid"], activation_alpha=[0.05, 0.3], activation_beta=[0.4])
case("lstm_numbers_of_both", "LSTM", direction="bidirectional", activations=["HardSigmoid", "ScaledTanh", "Elu"] * 2, activation_alpha=[0.3, 0.8, 0.6] * 2, activation_beta=[0.4, 1.2] * 2)
case("gru_before_no_bias", "GRU", bias=False, direction="bidirectional", linear_before_reset=0)
case("gru_before_clip", "GRU", linear_before_reset=0, clip=0.5, lengths=[4, 5, 1])
case("gru_after_softsign", "GRU", linear_before_reset=1, activations=["Sigmoid", "Softsign"])
case("gru_after_softplus_clip", "GRU", linear_before_reset=1, clip=0.7, activations=["Sigmoid", "Softplus"], direction="reverse")
case("rnn_affine", "RNN", activations=["Affine"], activation_alpha=[0.7], activation_beta=[0.1])
case("rnn_thresholded_clip", "RNN", activations=["ThresholdedRelu"], activation_alpha=[0.3], clip=0.9, bias=False)
case("rnn_relu_bidirectional", "RNN", activations=["Relu"] * 2, direction="bidirectional", lengths=[1, 5, 2])
