"""Quantisation-aware training: a model with quantisers as a network whose step sizes learn, and back into integers.

`convert.learnable` puts fake quantisation exactly where the quantisers of a model stand, `export.write` puts what was
learnt into the same quantisers: the integers of the model are those that the network was trained with.
"""
