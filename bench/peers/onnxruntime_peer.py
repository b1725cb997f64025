"""ONNX Runtime's LSTM, GRU and RNN operators on CPU, time-major; inference only. Needs numpy, onnx and onnxruntime."""
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import peer

OPERATORS = {"lstm": ("LSTM", 4), "gru": ("GRU", 3), "rnn_tanh": ("RNN", 1)}


def model(c):
    """The stack as an ONNX model: x and the initial states of every layer in, the output and the final states out."""
    rng = np.random.default_rng(0)
    operator, gates = OPERATORS[c.cell]
    states = ["h", "c"] if c.cell == "lstm" else ["h"]
    axes = [0, 0, -1] if c.bidirectional else [1]
    nodes, weights = [], [numpy_helper.from_array(np.array(axes, np.int64), "axes")]
    inputs, outputs = [("x", [c.T, c.B, c.I])], []
    x = "x"
    for layer in range(c.layers):
        features = c.I if layer == 0 else c.H * c.directions
        for name, shape in (("W", (gates * c.H, features)), ("R", (gates * c.H, c.H)), ("B", (2 * gates * c.H,))):
            values = rng.uniform(-1, 1, (c.directions, *shape)).astype(np.float32) / np.sqrt(c.H, dtype=np.float32)
            weights.append(numpy_helper.from_array(values, f"{name}{layer}"))
        starts = [f"{s}{layer}_in" for s in states]
        ends = [f"{s}{layer}_out" for s in states]
        options = {"linear_before_reset": 1} if c.cell == "gru" else {}
        nodes.append(helper.make_node(operator, [x, f"W{layer}", f"R{layer}", f"B{layer}", "", *starts], [f"Y{layer}", *ends],
                                      hidden_size=c.H, direction="bidirectional" if c.bidirectional else "forward", **options))
        if c.bidirectional:
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Yt{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"Yt{layer}", "axes"], [f"y{layer}"]))
        else:
            nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axes"], [f"y{layer}"]))
        x = f"y{layer}"
        inputs += [(s, [c.directions, c.B, c.H]) for s in starts]
        outputs += [(s, [c.directions, c.B, c.H]) for s in ends]
    outputs.insert(0, (x, [c.T, c.B, c.H * c.directions]))
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in some] for some in (inputs, outputs)]
    graph = helper.make_graph(nodes, "stack", *infos, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString()


def build(c, threads):
    if c.mode == "train":
        raise NotImplementedError("inference only")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model(c), options, providers=["CPUExecutionProvider"])
    feed = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()}
    feed["x"] = np.random.default_rng(1).standard_normal((c.T, c.B, c.I), dtype=np.float32)
    states = [name for name in feed if name != "x"]

    def infer():
        session.run(None, feed)

    def stream():
        _, *finals = session.run(None, feed)
        feed.update(zip(states, finals))

    return infer if c.mode == "infer" else stream


peer.main("onnxruntime", build, {"onnxruntime": onnxruntime.__version__})
