"""The lease on a device, as `edgewright.runtimes._lease` has it."""

from edgewright.runtimes._lease import lease, runtime_folder

__all__ = ["lease", "runtime_folder"]
