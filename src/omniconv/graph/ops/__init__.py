"""One file for each operator, or tight family of operators. Files are imported by :mod:`omniconv.graph.operator`.

An operator file calls :func:`omniconv.graph.operator.register` with a function ``lower(node, inputs, build)`` that
appends steps, a function ``fold(node, arrays, budget)`` that evaluates constants, or both. When they run, the node
already satisfies ONNX's schema (:mod:`omniconv.graph.schema`).
"""
