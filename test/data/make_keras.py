"""Writes the Keras files that the tests read, and the output of each layer that Keras computes with them.

Run by hand: KERAS_BACKEND=numpy python make_keras.py, with keras==3.15.1, h5py==3.16.0, jax and safetensors.
"""
import gzip
import os

import keras
import numpy as np
from keras import layers as L
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
keras.utils.set_random_seed(1)
random = np.random.default_rng(1)


def write(name, model, x):
    for variable in model.trainable_variables:
        variable.assign(random.uniform(-0.8, 0.8, variable.shape))
    tensors, y = {"x": x}, x
    for layer in model.layers:
        y = layer(y)
        tensors[layer.name] = np.ascontiguousarray(y)
    save_file(tensors, f"{here}/{name}.safetensors")
    for ending, save in (("keras", model.save), ("weights.h5", model.save_weights)):
        path = f"{here}/{name}.{ending}"
        save(path)
        with gzip.GzipFile(f"{path}.gz", "wb", 9, mtime=0) as file:
            file.write(open(path, "rb").read())
        os.remove(path)


everything = keras.Sequential([
    keras.Input((None,), dtype="int32"),
    L.Embedding(7, 4),
    L.Dropout(0.5),
    L.Bidirectional(L.GRU(3, return_sequences=True), name="both"),
    L.LSTM(5, return_sequences=True, name="mine"),
    L.LSTM(2, return_sequences=True, use_bias=False),
    L.LayerNormalization(),
    L.GRU(3, return_sequences=True, reset_after=False, name="before"),
    L.SimpleRNN(2, return_sequences=True, activation="relu"),
    L.Dense(2),
])
write("keras_sequence", everything, random.integers(0, 7, (2, 5)).astype("int32"))

video = keras.Sequential([
    keras.Input((3, 5, 4, 2)),
    L.ConvLSTM2D(2, (3, 2), padding="same", return_sequences=True),
])
write("keras_video", video, random.uniform(-1, 1, (1, 3, 5, 4, 2)).astype("float32"))
