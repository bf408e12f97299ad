"""ONNX operators written in simpler ones, before the layout is solved.

A rule takes a node apart: `RULES[operator](lowering, node)` returns the values that replace the node's outputs, or
None to leave the node as it is. Rules see static shapes and work on float and quantised graphs alike.
"""
