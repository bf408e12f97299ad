"""A project file, and the main job: from `edgewright.toml` to study, report and bundles."""
