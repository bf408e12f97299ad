"""Runs in the TensorFlow toolchain: `python _keras_models.py FOLDER NAME…` writes models, and what they compute."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import tensorflow as tf
import tf_keras

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
RNG = np.random.default_rng(7)


def lively(model: Any) -> Any:
    """Weights and statistics that no folding may lose: zero means and unit scales would hide it."""
    for variable in model.weights:
        name, shape = getattr(variable, "path", variable.name), tuple(variable.shape)
        if "seed" in name:
            continue
        if "variance" in name or "gamma" in name:
            variable.assign(RNG.uniform(0.5, 1.5, shape))
        elif "mean" in name or "beta" in name or "bias" in name:
            variable.assign(RNG.uniform(-0.5, 0.5, shape))
    return model


def write(name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    named = {f"in.{key}": value for key, value in inputs.items()}
    np.savez(FOLDER / f"{name}.npz", **named, **{f"out.{key}": np.asarray(value) for key, value in outputs.items()})


def cnn(api: Any) -> Any:
    layers = api.layers
    image = api.Input((28, 28, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides=2, padding="same")(x)))
    x = layers.Flatten()(layers.SeparableConv2D(12, 3)(x))
    return lively(api.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x)))


def save_cnn(name: str, api: Any, suffix: str) -> None:
    model, images = cnn(api), RNG.standard_normal((3, 28, 28, 1)).astype(np.float32)
    model.save(FOLDER / f"{name}{suffix}")
    write(name, {"image": images}, {"probabilities": model(images, training=False)})


def mobilenet(name: str) -> None:
    model = lively(keras.applications.MobileNetV2(input_shape=(64, 64, 3), weights=None, alpha=0.35, classes=20))
    images = RNG.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    model.save(FOLDER / f"{name}.keras")
    write(name, {"input_layer": images}, {"predictions": model(images, training=False)})


def lstm(name: str) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((20, 8), name="signal"),
            layers.LSTM(16, return_sequences=True),
            layers.Bidirectional(layers.LSTM(8)),
            layers.Dense(3, name="scores"),
        ]
    )
    signal = RNG.standard_normal((3, 20, 8)).astype(np.float32)
    lively(model).save(FOLDER / f"{name}.keras")
    write(name, {"signal": signal}, {"scores": model(signal, training=False)})


def gru(name: str) -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Input((6, 8), name="signal"), layers.GRU(8), layers.Dense(3, name="scores")])
    signal = RNG.standard_normal((3, 6, 8)).astype(np.float32)
    lively(model).save(FOLDER / f"{name}.keras")
    write(name, {"signal": signal}, {"scores": model(signal, training=False)})


def several(name: str) -> None:
    """Two inputs, three outputs, one of them an input."""
    layers = keras.layers
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="right")
    hidden = layers.Dense(5, activation="gelu")(layers.Concatenate()([left, right]))
    first, second = layers.Dense(2, name="first")(hidden), layers.LayerNormalization(name="second")(hidden)
    model = lively(keras.Model([left, right], [first, second, left]))
    given = {"left": RNG.standard_normal((3, 4)), "right": RNG.standard_normal((3, 6))}
    given = {key: value.astype(np.float32) for key, value in given.items()}
    found = model(list(given.values()), training=False)
    model.save(FOLDER / f"{name}.keras")
    write(name, given, dict(zip(("first", "second", "left_output"), found, strict=True)))


def attention(name: str) -> None:
    layers = keras.layers
    tokens = keras.Input((12,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 16)(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)])
    model = lively(keras.Model(tokens, layers.GlobalAveragePooling1D(name="meaning")(x)))
    given = RNG.integers(0, 50, (3, 12)).astype(np.int32)
    model.save(FOLDER / f"{name}.keras")
    write(name, {"tokens": given}, {"meaning": model(given, training=False)})


def fixed(name: str) -> None:
    """A fixed batch stays fixed."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((16, 16, 3), batch_size=2, name="image"),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
            layers.UpSampling2D(interpolation="bilinear"),
            layers.Rescaling(1 / 255.0, name="scaled"),
        ]
    )
    images = RNG.standard_normal((2, 16, 16, 3)).astype(np.float32)
    lively(model).save(FOLDER / f"{name}.keras")
    write(name, {"image": images}, {"scaled": model(images, training=False)})


def operators(name: str) -> None:
    """Keras 2 with calls of TensorFlow between layers, in its own HDF5 format."""
    given = tf_keras.Input((4,), name="x")
    model = tf_keras.Model(given, tf_keras.layers.Activation("linear", name="y")(tf.nn.relu(given) * 2.0 + given))
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    model.save(FOLDER / f"{name}.h5")
    write(name, {"x": x}, {"y": model(x)})


class Functions(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def double(self, x: Any) -> Any:
        return {"doubled": x * 2}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def cube(self, x: Any) -> Any:
        return {"cubed": x**3, "x": x}


class Reader(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(self, path: Any) -> Any:
        return {"length": tf.strings.length(tf.io.read_file(path))}


def signatures(name: str) -> None:
    module, x = Functions(), RNG.standard_normal((3, 3)).astype(np.float32)
    tf.saved_model.save(module, FOLDER / name, signatures={"double": module.double, "cube": module.cube})
    write(name, {"x": x}, {"cubed": x**3, "x_output": x})


def exported(name: str) -> None:
    model, images = cnn(keras), RNG.standard_normal((3, 28, 28, 1)).astype(np.float32)
    model.export(FOLDER / name, verbose=False)
    write(name, {"image": images}, {"output_0": model(images, training=False)})


@keras.saving.register_keras_serializable("mine")
class Twice(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def bad(name: str) -> None:
    """What is refused: each under the name of its defect."""
    layers = keras.layers
    shape = layers.Input((4,))
    programs = keras.Sequential([shape, layers.Lambda(lambda x: x * 2, name="sly")])
    custom = keras.Sequential([shape, Twice(name="twice")])
    function = keras.Sequential([shape, layers.Dense(3, activation=lambda_free)])
    for kind, model in (("lambda", programs), ("custom", custom), ("function", function)):
        model.save(FOLDER / f"{kind}.keras")
        model.save(FOLDER / f"{kind}.h5")
    function.save_weights(FOLDER / "alone.weights.h5")
    module = Reader()
    tf.saved_model.save(module, FOLDER / "reads", signatures={"serving_default": module.read})
    tf.saved_model.save(tf.Module(), FOLDER / "nothing")
    _other_file(FOLDER)


def _other_file(folder: Path) -> None:
    """HDF5 that names another file, by a link and by external storage."""
    import h5py

    for kind in ("link", "external"):
        path = folder / f"{kind}.h5"
        cnn(keras).save(path)
        with h5py.File(path, "a") as file:
            if kind == "link":
                file["stolen"] = h5py.ExternalLink("/etc/hostname", "/")
            else:
                file.create_dataset("stolen", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def lambda_free(x: Any) -> Any:
    return x * 2


MAKERS: dict[str, Any] = {
    "cnn": lambda name: save_cnn(name, keras, ".keras"),
    "cnn_h5": lambda name: save_cnn(name, keras, ".h5"),
    "cnn_keras2": lambda name: save_cnn(name, tf_keras, ".keras"),
    "cnn_keras2_h5": lambda name: save_cnn(name, tf_keras, ".h5"),
    "mobilenet": mobilenet,
    "lstm": lstm,
    "gru": gru,
    "several": several,
    "attention": attention,
    "fixed": fixed,
    "operators": operators,
    "signatures": signatures,
    "exported": exported,
    "bad": bad,
}

if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        MAKERS[wanted](wanted)
