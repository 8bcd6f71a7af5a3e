/** Layers that Keras does not have, as its own classes: written before the code that uses them. */

/** @type {Record<string, string>} */
export const KERAS_CLASSES = {
  Split: `class Split(layers.Layer):
    def __init__(self, widths, *branches):
        super().__init__()
        self.widths, self.branches = widths, list(branches)

    def call(self, x):
        found, first = [], 0
        for width, branch in zip(self.widths, self.branches):
            found.append(branch(x[..., first:first + width]))
            first += width
        return keras.ops.concatenate(found, axis=-1)
`,
  Pad: `class Pad(layers.Layer):
    """Padding with values of the input."""

    def __init__(self, pairs, mode):
        super().__init__()
        self.pairs, self.mode = pairs, mode

    def call(self, x):
        for axis, (before, after) in enumerate(self.pairs, 1):
            size = x.shape[axis]
            place = np.arange(-before, size + after)
            if self.mode == "reflect":
                place = size - 1 - abs(size - 1 - abs(place))
            elif self.mode == "replicate":
                place = np.clip(place, 0, size - 1)
            else:
                place = place % size
            x = keras.ops.take(x, place, axis=axis)
        return x
`,
  Every: `class Every(layers.Layer):
    """Every s-th position, from the first."""

    def __init__(self, strides):
        super().__init__()
        self.strides = strides

    def call(self, x):
        for axis, stride in enumerate(self.strides, 1):
            x = keras.ops.take(x, np.arange(0, x.shape[axis], stride), axis=axis)
        return x
`,
  Spread: `class Spread(layers.Layer):
    """s - 1 zeros between neighbours."""

    def __init__(self, strides):
        super().__init__()
        self.strides = strides

    def call(self, x):
        for axis, stride in enumerate(self.strides, 1):
            size = x.shape[axis]
            place = np.full((size - 1) * stride + 1, size)
            place[::stride] = np.arange(size)
            zero = keras.ops.zeros_like(keras.ops.take(x, np.array([0]), axis=axis))
            x = keras.ops.take(keras.ops.concatenate([x, zero], axis=axis), place, axis=axis)
        return x
`,
  ChannelShuffle: `class ChannelShuffle(layers.Layer):
    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def call(self, x):
        channels = x.shape[-1]
        order = np.arange(channels).reshape(self.groups, channels // self.groups).T.reshape(-1)
        return keras.ops.take(x, order, axis=x.ndim - 1)
`,
  DepthToSpace: `class DepthToSpace(layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        *sizes, c = x.shape[1:]
        f, dims = self.factor, len(sizes)
        y = keras.ops.reshape(x, (-1, *sizes, c // f**dims, *[f] * dims))
        order = [0] + [axis for a in range(dims) for axis in (1 + a, 2 + dims + a)] + [1 + dims]
        return keras.ops.reshape(keras.ops.transpose(y, order), (-1, *[size * f for size in sizes], c // f**dims))
`,
  Resize: `class Resize(layers.Layer):
    """Linear interpolation of every axis, centres of cells aligned."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        for axis in range(1, x.ndim - 1):
            size = x.shape[axis]
            place = np.clip((np.arange(size * self.factor) + 0.5) / self.factor - 0.5, 0, size - 1)
            low = np.floor(place).astype("int64")
            share = (place - low).astype("float32").reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            share = keras.ops.convert_to_tensor(share)
            high = np.minimum(low + 1, size - 1)
            x = keras.ops.take(x, low, axis=axis) * (1 - share) + keras.ops.take(x, high, axis=axis) * share
        return x
`,
};
