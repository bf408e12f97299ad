"""Distillation: a student learns what a teacher gives, with or without labels.

`settings` says what is compared, `points` where inside, `outputs` and `inside` how, `teacher` what the teacher gives,
`objective` puts it together for the training loop, `distil` runs it on two ONNX models.
"""
