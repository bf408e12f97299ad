"""What channels cost on a target: pruned forms of a model are run, and a model of their time is fitted."""
