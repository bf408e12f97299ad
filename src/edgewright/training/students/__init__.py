"""Students for distillation: a catalogue of small networks, scaled in width, shaped after their teacher's interface."""
