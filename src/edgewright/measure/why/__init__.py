"""Why accuracy dropped: evidence gathered stage by stage and layer by layer, and rules that name the cause."""
