"""The archive that ships: manifest, pack, verify, model card, SBOM."""
