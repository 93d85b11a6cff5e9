"""How the small checkpoints that teach were made: ``python -m zoo.training.bundled NAME`` makes one anew.

Each module has ``make(seed) -> (model, measured)``: the trained model and the figures that its card states. The runs are
seeded and single-threaded; on one kind of CPU with one version of torch they give the same bytes again.
"""
